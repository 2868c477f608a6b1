"""What msseg_evaluate will take, from headers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msseg.data.image import read_geometry
from msseg.errors import DatasetError, ResourceError
from msseg.evaluation.label_names import labels_beside
from msseg.evaluation.pairs import pair_files
from msseg.parallel import default_workers
from msseg.pipeline.explain import too_little_memory
from msseg.pipeline.explain_headers import is_compressed, stored_bytes
from planning.costs.estimate import Estimate
from planning.costs.evaluation import PairSize, evaluation_estimate, evaluation_memory, pair_bytes
from planning.costs.machine import Machine

_USUAL_LABELS = 3


def explain_evaluation(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    machine: Machine,
    labels: Mapping[str, Any] | None = None,
    workers: int | None = None,
    max_ram: int | None = None,
) -> Estimate:
    """The prediction for two folders; labels that nobody names are taken to be three.

    Raises DatasetError where no prediction has the name of a reference, ResourceError where not even one worker fits
    `max_ram` bytes.
    """
    pairs = _pair_sizes(predictions, references)
    named = labels or labels_beside(Path(references)) or {}
    count = sum(value != 0 for value in named.values()) or _USUAL_LABELS
    estimate = evaluation_estimate(pairs, count, workers or default_workers(), machine, max_ram)
    if estimate is None:
        raise _too_large(pairs, machine, max_ram or 0)
    return estimate


def evaluating_workers(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    machine: Machine,
    workers: int,
    max_ram: int,
) -> int:
    """The most workers, up to `workers`, that measure the pairs within `max_ram` bytes, all processes together.

    Raises ResourceError where not even one does.
    """
    pairs = _pair_sizes(predictions, references)
    used = evaluation_memory(machine).affordable_workers([pair_bytes(pair) for pair in pairs], workers, max_ram)
    if not used:
        raise _too_large(pairs, machine, max_ram)
    return used


def _too_large(pairs: Sequence[PairSize], machine: Machine, max_ram: int) -> ResourceError:
    needed = machine.processes["evaluate"].resident_bytes + max(map(pair_bytes, pairs))
    return too_little_memory("evaluation", needed, max_ram, "two label maps are compared whole", "Give more.")


def _pair_sizes(predictions: str | os.PathLike[str], references: str | os.PathLike[str]) -> list[PairSize]:
    pairing = pair_files(Path(predictions), Path(references))
    if not pairing.pairs:
        raise DatasetError(f"{predictions}: none of its files has the name of a reference in {references}.")
    return [pair_size(pair.prediction, pair.reference) for pair in pairing.pairs]


def pair_size(prediction: Path, reference: Path) -> PairSize:
    """The sizes of two label maps; an image may stand for a prediction of its that is not there yet."""
    # A folder of one mask an object lies on the grid of its image, and so does the prediction.
    files = (prediction, prediction if reference.is_dir() else reference)
    geometry = read_geometry(files[1])
    return PairSize(
        voxels=math.prod(geometry.shape),
        file_bytes=sum(path.stat().st_size for path in files),
        inflated_bytes=sum(stored_bytes(path, geometry) for path in files),
        compressed=is_compressed(files[1]),
    )
