"""What was measured of the presets of speed, on disk: a fold's cases in its folder, their sums in the model's.

Folds write files of their own, so that those trained at the same time do not replace each other's findings.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from msseg.checkpoint import FINAL, versions
from msseg.errors import CheckpointError
from msseg.files import content_hash, read_json, write_json
from msseg.inference.predictor import Predictor
from msseg.inference.speeds import EXACT, SPEEDS, SPEEDS_FILE, SPEEDS_VERSION, MeasuredSpeed
from msseg.training.validation import Overlap, mean_dice


@dataclass(frozen=True)
class CaseSpeeds:
    """One case under every preset, by name: the overlap with its reference, and the seconds that it took.

    Overlaps are of the foreground's classes, or of the regions.
    """

    name: str
    megavoxels: float
    overlaps: Mapping[str, Overlap]
    seconds: Mapping[str, float]


def write_fold(fold: Path, predictor: Predictor, measured: Sequence[CaseSpeeds]) -> None:
    """Write what the presets did with the fold's cases, the hash of its weights, and on what machine it was."""
    cases = {
        one.name: {
            "megavoxels": one.megavoxels,
            "seconds": dict(one.seconds),
            "overlaps": {name: asdict(counts) for name, counts in one.overlaps.items()},
        }
        for one in measured
    }
    record = {
        "version": SPEEDS_VERSION,
        "checkpoint": content_hash(fold / FINAL),
        "labels": list(predictor.label_map.values),
        "regions": [region.name for region in predictor.model.plan.regions],
        "options": _presets(),
        "machine": _machine(predictor.device),
        "versions": versions(),
        "cases": cases,
    }
    write_json(fold / SPEEDS_FILE, record)


def write_summary(model_dir: Path) -> bool:
    """Write the model's table from what its folds measured with their present weights; whether there was anything.

    Folds of other weights, presets, labels or regions than the first are left out; without any, an older table is
    removed.
    """
    path = Path(model_dir) / SPEEDS_FILE
    records = dict(_current_records(path.parent))
    if not records:
        path.unlink(missing_ok=True)
        return False
    labels, regions = _measured_of(next(iter(records.values())))
    same = {fold: record for fold, record in records.items() if _measured_of(record) == (labels, regions)}
    speeds = {
        name: {"options": options, **asdict(_summary(name, list(same.values()), len(labels)))}
        for name, options in _presets().items()
    }
    kept = ("checkpoint", "machine", "versions")
    folds = {fold: {key: record[key] for key in kept} for fold, record in same.items()}
    write_json(path, {"version": SPEEDS_VERSION, "speeds": speeds, "folds": folds})
    return True


def _measured_of(record: Mapping[str, Any]) -> tuple[list[int], list[str]]:
    """The values of the classes that a record's overlaps are of, and the names of the regions, if they are of those."""
    return record["labels"], record.get("regions", [])


def _presets() -> dict[str, Any]:
    return {name: asdict(speed) for name, speed in SPEEDS.items()}


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _current_records(model_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The folds' records of this version, of the weights and the presets as they are now, by fold."""
    for path in sorted(model_dir.glob(f"fold_*/{SPEEDS_FILE}")):
        record = read_json(path, CheckpointError)
        checkpoint = path.with_name(FINAL)
        if record.get("version") != SPEEDS_VERSION or record["options"] != _presets() or not checkpoint.is_file():
            continue
        if content_hash(checkpoint) == record["checkpoint"]:
            yield path.parent.name.removeprefix("fold_"), record


def _summary(name: str, records: Sequence[Mapping[str, Any]], num_classes: int) -> MeasuredSpeed:
    cases = [case for record in records for case in record["cases"].values()]
    overlaps = [Overlap(**{key: tuple(counts) for key, counts in case["overlaps"][name].items()}) for case in cases]
    seconds = sum(case["seconds"][name] for case in cases)
    known = [dice for dice in mean_dice(overlaps, num_classes) if not math.isnan(dice)]
    return MeasuredSpeed(
        dice=sum(known) / len(known) if known else None,
        seconds_per_case=seconds / len(cases),
        seconds_per_megavoxel=seconds / sum(case["megavoxels"] for case in cases),
        share_of_exact=seconds / sum(case["seconds"][EXACT] for case in cases),
        cases=len(cases),
        device=", ".join(sorted({record["machine"]["device"] for record in records})),
    )
