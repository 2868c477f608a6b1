"""What averaging saved probabilities will take, from the headers of their files."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msseg.pipeline.ensemble import AveragedCase, averaged_cases
from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import Machine

_VALUES = "probabilities.npy"
_SLAB_BYTES = 64 << 20
_LABEL_FILE_SHARE = 0.01


def explain_ensemble(
    folders: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str], machine: Machine, workers: int = 1
) -> Estimate:
    """Every file inflated once, averaged, a label map written. Raises DatasetError where folders do not fit."""
    cases = averaged_cases([Path(folder) for folder in folders], Path(output))
    rates, process = machine.cases, machine.processes["prepare"]
    sizes = [_sizes(case) for case in cases]
    values, stored_bytes = (sum(one[place] for one in sizes) for place in (0, 1))
    voxels = sum(one[2] for one in sizes)
    workers = max(1, min(workers, len(cases), machine.cores))
    parts = [
        Part("start", process.start_s),
        Part("read and inflate", (sum(one[1] for one in sizes) / rates.gunzip_to_bytes_per_s) / workers),
        Part("average", values / rates.score_voxels_per_s / workers),
        Part("write", voxels / rates.gzip_label_bytes_per_s / workers),
    ]
    memory = process.resident_bytes + workers * (max(one[1] for one in sizes) + _SLAB_BYTES)
    assumptions = ["label files shrink to 1 %"] + ([] if stored_bytes else ["no header could be read"])
    return estimate_of(
        parts, memory, _LABEL_FILE_SHARE * voxels, settings=[("workers", str(workers))], assumptions=assumptions
    )


def _sizes(case: AveragedCase) -> tuple[int, int, int]:
    """Values and bytes of all members' files, inflated, and voxels; 0 for a file that is damaged."""
    found = [_shape(path) for path in case.members]
    values = [math.prod(shape) for shape, _ in found]
    stored = sum(count * size for count, (_, size) in zip(values, found, strict=True))
    return sum(values), stored, math.prod(found[0][0][1:])


def _shape(path: Path) -> tuple[tuple[int, ...], int]:
    """The shape of a file's values, and the bytes of one; reading the header does not inflate the rest."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_VALUES) as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return (0, 0, 0, 0), 1
    return tuple(shape), dtype.itemsize
