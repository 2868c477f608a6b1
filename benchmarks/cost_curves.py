"""Time and memory of every stage against voxels, classes, cases and workers, with fitted exponents and floors.

    python benchmarks/cost_curves.py [--only prepare export] [--points FILE] [--picture FILE]

Data are made on the fly. Each sweep runs in a fresh process on one thread; the points are kept in a JSON file, so that
single sweeps can be measured again (--only) and the table and the picture be made from all. Exponents are those of
a·xᵇ, by least squares on logarithms; `last` is the slope between the two largest points, where what every start costs
counts least.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from cost_picture import draw

HERE = Path(__file__).parent
_WALL = ("workers",)  # Workers cost processor time; what they save is on the wall clock.


@dataclass(frozen=True)
class Sweep:
    """One stage against one size; `fixed` are the sizes of the other things."""

    stage: str
    swept: str
    values: Sequence[int]
    fixed: dict[str, int] = field(default_factory=dict)


def _powers(first: int, last: int, step: int = 1) -> list[int]:
    return [1 << power for power in range(first, last + 1, step)]


SWEEPS = (
    Sweep("prepare", "voxels", _powers(15, 23, 2), {"cases": 3}),
    Sweep("prepare", "classes", _powers(1, 6), {"cases": 3, "voxels": 1 << 19}),
    Sweep("prepare", "cases", _powers(2, 8, 2), {"voxels": 1 << 13}),
    Sweep("prepare", "workers", _powers(0, 2), {"cases": 8, "voxels": 1 << 19}),
    Sweep("prepare again", "cases", _powers(2, 8, 2), {"voxels": 1 << 13}),
    Sweep("batches", "cases", _powers(2, 10, 2), {"voxels": 1 << 15}),
    Sweep("batches", "voxels", _powers(15, 23, 2), {"cases": 2}),
    Sweep("batches", "classes", _powers(1, 6), {"cases": 2}),
    Sweep("training step", "voxels", _powers(14, 20, 2)),
    Sweep("training step", "classes", _powers(1, 6), {"voxels": 1 << 16}),
    Sweep("sliding window", "voxels", _powers(15, 21, 2)),
    Sweep("sliding window", "classes", _powers(1, 6), {"voxels": 1 << 18}),
    Sweep("predict", "voxels", _powers(15, 21, 2)),
    Sweep("predict", "classes", _powers(1, 6), {"voxels": 1 << 18}),
    Sweep("export", "voxels", _powers(16, 24, 2)),
    Sweep("export", "classes", _powers(1, 6)),
    Sweep("evaluate", "voxels", _powers(15, 23, 2)),
    Sweep("evaluate", "classes", _powers(1, 6)),
    Sweep("evaluate files", "cases", _powers(1, 5), {"voxels": 1 << 15}),
    Sweep("evaluate files", "workers", _powers(0, 2), {"cases": 8, "voxels": 1 << 18}),
    Sweep("postprocess", "voxels", _powers(15, 23, 2)),
    Sweep("postprocess", "classes", _powers(1, 6)),
)


@dataclass(frozen=True)
class Fit:
    """y = a·xᵇ: the exponent b, the root mean square of the relative residuals, the slope between the last two."""

    exponent: float
    residual: float
    last: float


def fitted(x: Sequence[float], y: Sequence[float]) -> Fit:
    """The least-squares line through the logarithms."""
    log_x, log_y = np.log(x), np.log(y)
    exponent, offset = np.polyfit(log_x, log_y, 1)
    residual = float(np.sqrt(np.mean((exponent * log_x + offset - log_y) ** 2)))
    last = (log_y[-1] - log_y[-2]) / (log_x[-1] - log_x[-2])
    return Fit(float(exponent), residual, float(last))


def measure_sweep(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """The points of one sweep, as they come from a process of its own."""
    values, fixed = json.dumps(list(sweep.values)), json.dumps(sweep.fixed)
    command = [sys.executable, str(HERE / "cost_stages.py"), sweep.stage, sweep.swept, values, fixed]
    # One thread, for the libraries' own pools too: seconds of processor time then mean work, not waiting.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def seconds_name(swept: str) -> str:
    """Which of a point's seconds tell of this sweep."""
    return "wall_s" if swept in _WALL else "cpu_s"


def table(points: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: what was swept from where to where, seconds and memory at the end, exponents."""
    yield "| stage | against | from | to | s there | exponent | at the end | ± | MB there | exponent | at the end |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for sweep in SWEEPS:
        mine = points_of(points, sweep)
        if len(mine) > 1:
            yield _row(sweep, mine)


def _row(sweep: Sweep, mine: Sequence[dict[str, Any]]) -> str:
    x = [point["size"] for point in mine]
    seconds = [point[seconds_name(sweep.swept)] for point in mine]
    memory = [point["peak_bytes"] for point in mine]
    time_fit, memory_fit = fitted(x, seconds), fitted(x, memory)
    cells = [
        *(sweep.stage, sweep.swept, f"{x[0]:,}", f"{x[-1]:,}"),
        *(f"{seconds[-1]:.2g}", f"{time_fit.exponent:.2f}", f"{time_fit.last:.2f}", f"{time_fit.residual:.0%}"),
        *(f"{memory[-1] / 1e6:.3g}", f"{memory_fit.exponent:.2f}", f"{memory_fit.last:.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


def measured_floors() -> dict[str, float]:
    """What one thread of this machine does at best, measured in a process of its own."""
    command = [sys.executable, str(HERE / "cost_floors.py")]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def write_points(path: Path, points: Sequence[dict[str, Any]], floors: dict[str, float]) -> None:
    """Keep what was measured, one line a point, with three digits: more are noise."""
    lines = ",\n  ".join(json.dumps(_rounded(point)) for point in points)
    path.write_text(f'{{"floors": {json.dumps(_rounded(floors))},\n "points": [\n  {lines}\n]}}\n')


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in values.items()}


def points_of(points: Sequence[dict[str, Any]], sweep: Sweep) -> list[dict[str, Any]]:
    """The points of a sweep, by size."""
    mine = [point for point in points if (point["stage"], point["swept"]) == (sweep.stage, sweep.swept)]
    return sorted(mine, key=lambda point: point["size"])


def asked_for(sweeps: Sequence[Sweep], stages: Sequence[str] | None, swept: Sequence[str] | None) -> list[Sweep]:
    """Those of these stages and sizes; None means all."""
    return [
        sweep
        for sweep in sweeps
        if (stages is None or sweep.stage in stages) and (swept is None or sweep.swept in swept)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = HERE.parent / "docs" / "pictures"
    parser.add_argument("--points", type=Path, default=pictures / "cost_curves.json", help="what was measured")
    parser.add_argument("--picture", type=Path, default=pictures / "cost_curves.png")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="stages to measure (default: all)")
    parser.add_argument("--swept", nargs="+", help="of these, the sweeps over these sizes")
    parser.add_argument("--draw", action="store_true", help="measure nothing; table and picture of what there is")
    parser.add_argument("--quick", action="store_true", help="two points of every sweep, nothing kept: whether it runs")
    arguments = parser.parse_args()
    kept = json.loads(arguments.points.read_text()) if arguments.points.exists() and not arguments.quick else {}
    points, floors = kept.get("points", []), kept.get("floors")
    if floors is None or not (arguments.draw or arguments.only):
        floors = measured_floors()
    for sweep in [] if arguments.draw else asked_for(SWEEPS, arguments.only, arguments.swept):
        print(f"{sweep.stage} against {sweep.swept}", file=sys.stderr, flush=True)
        fresh = list(measure_sweep(replace(sweep, values=sweep.values[:2]) if arguments.quick else sweep))
        points = [point for point in points if point not in points_of(points, sweep)] + fresh
        if not arguments.quick:
            write_points(arguments.points, points, floors)
    print("\n".join(table(points)))
    print(", ".join(f"{name} {value:.3g}" for name, value in floors.items()))
    if not arguments.quick:
        print(draw(points, floors, arguments.picture))


if __name__ == "__main__":
    main()
