"""The frame of a race: where things lie, pairs of runs in turn, results kept in a file, the table made from them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measure import Measurement, measure
from nnunet_peer import environment

HERE = Path(__file__).parent
_START = "import sys; from msseg.commands.{0} import main; sys.exit(main())"


@dataclass(frozen=True)
class Race:
    """Where everything lies; `nnunet` is the Python of nnU-Net's environment. A quick race is of small inputs."""

    data: Path
    nnunet: Path
    work: Path
    quick: bool = False

    @property
    def peer(self) -> Path:
        return self.work / "nnunet"

    @property
    def root(self) -> Path:
        return self.work / "msseg"

    def raw(self, dataset: str) -> Path:
        """The data set as both read it, in nnU-Net's layout."""
        return self.peer / "raw" / dataset

    def log(self, name: str) -> Path:
        return self.work / f"{name}.log"

    def ours(self, command: str, *arguments: str) -> Measurement:
        """Run one of our commands from its process start."""
        return measure([sys.executable, "-c", _START.format(command), *arguments], self.log(f"ours_{command}"))

    def theirs(self, command: str, *arguments: str) -> Measurement:
        """Run one of nnU-Net's commands from its process start."""
        script = self.nnunet.with_name(command)
        return measure([str(script), *arguments], self.log(f"theirs_{command}"), environment(self.peer))

    def our_script(self, name: str, *arguments: str) -> tuple[Measurement, dict[str, Any]]:
        """Run a script that lies beside this one; what it prints last is JSON."""
        log = self.log(f"ours_{name}")
        return measure([sys.executable, str(HERE / f"{name}.py"), *arguments], log), _last_json(log)

    def peer_script(self, verb: str, *arguments: str) -> tuple[Measurement, dict[str, Any]]:
        """Run a verb of nnunet_peer.py in nnU-Net's environment."""
        log = self.log(f"theirs_{verb}")
        command = [str(self.nnunet), str(HERE / "nnunet_peer.py"), verb, *arguments]
        return measure(command, log, environment(self.peer)), _last_json(log)


@dataclass(frozen=True)
class Figure:
    """The same figure of both; one that only a comparison of the two gives has no `theirs`."""

    name: str
    unit: str
    ours: float | None
    theirs: float | None = None


@dataclass(frozen=True)
class Stage:
    """`prepare` makes what both start from, unless it is there; `pair` runs ours, then theirs."""

    prepare: Callable[[Race], None]
    pair: Callable[[Race], list[Figure]]


def usual(ours: Measurement, theirs: Measurement, of: str = "") -> list[Figure]:
    """Wall time, processor time and peak memory of both; `of` says of what."""
    prefix = f"{of}: " if of else ""
    return [
        Figure(f"{prefix}wall time", "s", ours.wall_s, theirs.wall_s),
        Figure(f"{prefix}processor time", "s", ours.cpu_s, theirs.cpu_s),
        Figure(f"{prefix}peak memory", "GB", ours.peak_bytes / 1e9, theirs.peak_bytes / 1e9),
    ]


def run_stage(name: str, stage: Stage, race: Race, repeats: int, results: Path) -> None:
    """Run pairs until the results hold `repeats` of them; each is written down as it ends.

    The load of the machine is noted beside it: above the number of cores, something else took a share.
    """
    missing = repeats - len([pair for pair in read_pairs(results) if pair["stage"] == name])
    if missing <= 0:
        return
    stage.prepare(race)
    for _ in range(missing):
        start = time.monotonic()
        figures = stage.pair(race)
        pair = {
            "stage": name,
            "took_s": round(time.monotonic() - start, 1),
            "load": round(os.getloadavg()[1], 1),
            "figures": [asdict(figure) for figure in figures],
        }
        _write(results, [*read_pairs(results), pair])


def forget(results: Path, stages: Sequence[str]) -> None:
    """Drop the pairs of these stages."""
    _write(results, [pair for pair in read_pairs(results) if pair["stage"] not in stages])


def read_pairs(results: Path) -> list[dict[str, Any]]:
    """The pairs so far, in the order of their running."""
    return json.loads(results.read_text()) if results.exists() else []


def _write(results: Path, pairs: Sequence[dict[str, Any]]) -> None:
    temporary = results.with_suffix(".writing")
    temporary.write_text(json.dumps(pairs, indent=1) + "\n")
    temporary.replace(results)


def table(pairs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: medians over the pairs of a stage, the ratio of the medians, the pairs and the load."""
    yield "| stage | figure | msseg | nnU-Net | ratio | pairs | load |"
    yield "|---|---|---|---|---|---|---|"
    for stage in dict.fromkeys(pair["stage"] for pair in pairs):
        mine = [pair for pair in pairs if pair["stage"] == stage]
        load = median(pair["load"] for pair in mine)
        names = dict.fromkeys((figure["name"], figure["unit"]) for pair in mine for figure in pair["figures"])
        for name, unit in names:
            found = [figure for pair in mine for figure in pair["figures"] if figure["name"] == name]
            ours, theirs = _median(found, "ours"), _median(found, "theirs")
            ratio = f"{ours / theirs:.3f}" if ours is not None and theirs else ""
            yield (
                f"| {stage} | {name} | {_shown(ours, unit)} | {_shown(theirs, unit)} | {ratio} "
                f"| {len(found)} | {load:.1f} |"
            )


def _median(figures: Sequence[dict[str, Any]], side: str) -> float | None:
    values = [figure[side] for figure in figures if figure[side] is not None]
    return median(values) if values else None


def _shown(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.4g} {unit}".strip()


def _last_json(log: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(log.read_text().strip().splitlines()[-1])
    return found
