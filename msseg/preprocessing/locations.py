"""Where the voxels of each class are, a sample of them: what foreground patches are centred on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from msseg.data.store import ANNOTATED

_SEED = 1234
_MOST_VOXELS = 10_000
_LEAST_SHARE = 0.01  # of a class's voxels, so that a large organ is not sampled too thinly
_SLAB_VOXELS = 1 << 20  # numpy turns indices into 64 bits: a slab of them is 8 MB


def class_voxels(label: np.ndarray) -> np.ndarray:
    """Voxels per class 0, 1, … up to the largest in `label`; negative labels are not counted."""
    counts = np.zeros(max(int(label.max(initial=0)) + 1, 1), np.int64)
    for _, slab in slabs(label):
        values = slab.reshape(-1)
        counts += np.bincount(values[values >= 0], minlength=len(counts))
    return counts


def sample_locations(label: np.ndarray) -> dict[int, np.ndarray]:
    """Per foreground class present, voxel indices (n, d) int32 in C order.

    Where voxels are ignored (-1), also under `ANNOTATED` of those that are not, whatever their class. At most 10 000 a
    class or 1 % of it, whichever is more, drawn without replacement with a fixed seed. Takes two passes over the volume
    whatever the number of classes, and memory for a slab of it.
    """
    rng = np.random.default_rng(_SEED)
    counts = class_voxels(label)
    known = int(counts.sum())
    counts[ANNOTATED] = known if known < label.size else 0
    ranks = {index: _drawn_ranks(int(count), rng) for index, count in enumerate(counts) if count > 0}
    found: dict[int, list[np.ndarray]] = {index: [] for index in ranks}
    seen = np.zeros(len(counts), np.int64)
    for start, slab in slabs(label):
        for index, flat in _flat_indices_per_class(slab, ANNOTATED in ranks):
            drawn = ranks[index]
            low, high = np.searchsorted(drawn, (seen[index], seen[index] + len(flat)))
            found[index].append(flat[drawn[low:high] - seen[index]] + start)
            seen[index] += len(flat)
    return {
        index: np.stack(np.unravel_index(np.concatenate(parts), label.shape), axis=1).astype(np.int32)
        for index, parts in found.items()
    }


def _drawn_ranks(count: int, rng: np.random.Generator) -> np.ndarray:
    wanted = max(min(_MOST_VOXELS, count), int(np.ceil(count * _LEAST_SHARE)))
    return np.sort(rng.choice(count, wanted, replace=False))


def _flat_indices_per_class(slab: np.ndarray, with_annotated: bool) -> Iterator[tuple[int, np.ndarray]]:
    values = slab.reshape(-1)
    if with_annotated:
        yield ANNOTATED, np.flatnonzero(values >= 0)
    foreground = np.flatnonzero(values > 0)
    classes = values[foreground]
    order = np.argsort(classes, kind="stable")
    boundaries = np.flatnonzero(np.diff(classes[order])) + 1
    for part in np.split(order, boundaries):
        if len(part):
            yield int(classes[part[0]]), foreground[part]


def slabs(label: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Slabs of whole slices along the first axis, each with the flat index of its first voxel."""
    slice_voxels = max(1, int(np.prod(label.shape[1:])))
    thickness = max(1, _SLAB_VOXELS // slice_voxels)
    for start in range(0, len(label), thickness):
        yield start * slice_voxels, label[start : start + thickness]
