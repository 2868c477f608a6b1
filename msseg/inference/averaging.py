"""The mean of several models' stored probabilities, made slab by slab from the whole numbers of their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.geometry import Geometry, grid_distance_mm
from msseg.data.image import GRID_TOLERANCE_MM
from msseg.errors import DatasetError
from msseg.inference.probability_files import StoredProbabilities, read_stored
from planning.instances import InstancePlan
from planning.regions import Region

# Values of the mean that are held at a time where not all of it is asked for.
_SLAB_VALUES = 1 << 22
# What sums in float32 may lose, so that a value on the edge counts as doubtful.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Mean:
    """The weighted mean of probabilities of one case; `members` hold whole numbers, `weights` add up to 1."""

    members: tuple[StoredProbabilities, ...]
    weights: tuple[float, ...]

    @property
    def geometry(self) -> Geometry:
        return self.members[0].geometry

    @property
    def labels(self) -> dict[str, int]:
        """Name and value of each class, in their order."""
        return self.members[0].labels

    @property
    def instances(self) -> InstancePlan | None:
        """What single objects are called where the classes are levels."""
        return self.members[0].instances

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions that the probabilities are of; none where they are of classes."""
        return self.members[0].regions

    @property
    def largest_error(self) -> float:
        """How far a probability may lie off the mean of what the models said: the mean of half a step of each."""
        return sum(weight * one.largest_error for weight, one in zip(self.weights, self.members, strict=True))

    def slabs(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows and their probabilities, float32 (k, rows, y, x), in order."""
        num_classes, depth, *plane = self.members[0].probabilities.shape
        rows = max(1, _SLAB_VALUES // (num_classes * int(np.prod(plane))))
        for start in range(0, depth, rows):
            slab = slice(start, min(start + rows, depth))
            yield slab, self._mean(slab)

    def probabilities(self) -> np.ndarray:
        """All of it at once, float32 (k, z, y, x)."""
        whole = np.empty(self.members[0].probabilities.shape, np.float32)
        for rows, slab in self.slabs():
            whole[:, rows] = slab
        return whole

    def classes(self, threshold: float | None = None) -> np.ndarray:
        """The class indices (z, y, x), see `classes_of`."""
        found = np.empty(self.geometry.shape, np.uint8 if len(self.labels) < 256 else np.uint16)
        for rows, slab in self.slabs():
            found[rows] = classes_of(slab, self.instances, threshold, self.regions)
        return found

    def doubtful(self, threshold: float | None = None) -> int:
        """Voxels whose class may be another one because the files hold whole numbers, see `largest_error`."""
        told = self.instances, threshold, self.regions
        margins = (_margin(slab, self.largest_error, *told) for _, slab in self.slabs())
        return sum(int((margin <= _ROUNDING).sum()) for margin in margins)

    def _mean(self, rows: slice) -> np.ndarray:
        shape = self.members[0].probabilities[:, rows].shape
        mean = np.zeros(shape, np.float32)
        for weight, one in zip(self.weights, self.members, strict=True):
            mean += one.probabilities[:, rows] * np.float32(weight / (2**one.bits - 1))
        return mean


@dataclass(frozen=True)
class Held:
    """A mean that is held whole: `values` float32 (k, z, y, x), `labels` name and value of each class in order.

    Where there are `regions`, the values are theirs.
    """

    values: np.ndarray
    geometry: Geometry
    labels: dict[str, int]
    instances: InstancePlan | None = None
    regions: tuple[Region, ...] = ()

    def probabilities(self) -> np.ndarray:
        """All of it."""
        return self.values

    def classes(self, threshold: float | None = None) -> np.ndarray:
        """The class indices (z, y, x), see `classes_of`."""
        dtype = np.uint8 if len(self.labels) < 256 else np.uint16
        return classes_of(self.values, self.instances, threshold, self.regions).astype(dtype)


def classes_of(
    probabilities_kzyx: np.ndarray,
    instances: InstancePlan | None = None,
    threshold: float | None = None,
    regions: Sequence[Region] = (),
) -> np.ndarray:
    """Class indices of probabilities: the most probable class, the first of equals.

    With a `threshold`, or of levels of objects (½), 1 where all classes but the first exceed it together. Of `regions`,
    those that exceed the threshold (½) are painted one after the other.
    """
    if regions:
        return painted_classes(probabilities_kzyx, regions, 0.5 if threshold is None else threshold)
    if instances is None and threshold is None:
        return probabilities_kzyx.argmax(0)
    return 1 - probabilities_kzyx[0] > (0.5 if threshold is None else threshold)


def painted_classes(probabilities_kzyx: np.ndarray, regions: Sequence[Region], threshold: float = 0.5) -> np.ndarray:
    """What the regions paint where their probabilities exceed the threshold, later ones over earlier; else 0."""
    painted = np.zeros(probabilities_kzyx.shape[1:], np.uint16)
    for probability, region in zip(probabilities_kzyx, regions, strict=True):
        painted[probability > threshold] = region.painted
    return painted


def read_mean(paths: Sequence[Path], weights: Sequence[float] | None = None) -> Mean:
    """The mean of one case's files of several models, equally weighted where no `weights` say otherwise.

    Raises DatasetError where a file is missing or damaged, or labels or grids differ; ValueError where weights are not
    as many as files, negative, or all 0.
    """
    members = tuple(read_stored(path) for path in paths)
    for path, one in zip(paths[1:], members[1:], strict=True):
        _check_same(paths[0], members[0], path, one)
    return Mean(members, shares(weights, len(members)))


def shares(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Weights that add up to 1, equal ones for None; ValueError where they are not `count`, negative, or all 0."""
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(given) != count or min(given) < 0 or not 0 < sum(given) < float("inf"):
        raise ValueError(f"weights {given} for {count} models; expected one each, none negative and not all 0")
    return tuple(weight / sum(given) for weight in given)


def _margin(
    slab: np.ndarray,
    error: float,
    instances: InstancePlan | None,
    threshold: float | None,
    regions: Sequence[Region],
) -> np.ndarray:
    """How far each voxel's decision lies beyond what the error can turn, at most 0 where it can.

    Of regions it is that of the least sure, though a later one may hide it.
    """
    if regions:
        least_sure: np.ndarray = np.abs(slab - (0.5 if threshold is None else threshold)).min(0) - error
        return least_sure
    if instances is not None or threshold is not None:
        decided: np.ndarray = np.abs(1 - slab[0] - (0.5 if threshold is None else threshold)) - error
        return decided
    best = slab.argmax(0)[None]
    first = np.take_along_axis(slab, best, 0)[0]
    others = slab.copy()
    np.put_along_axis(others, best, -1.0, 0)
    margin: np.ndarray = first - others.max(0) - 2 * error
    return margin


def _check_same(first_path: Path, first: StoredProbabilities, path: Path, one: StoredProbabilities) -> None:
    for what, expected, found in (
        ("labels", list(first.labels.items()), list(one.labels.items())),
        ("objects", first.instances, one.instances),
        ("regions", first.regions, one.regions),
        ("shape", first.geometry.shape, one.geometry.shape),
    ):
        if expected != found:
            raise DatasetError(
                f"{path}: {what} {found}, but {first_path} has {expected}. Average models of one data set."
            )
    apart_mm = grid_distance_mm(first.geometry, one.geometry)
    if apart_mm > GRID_TOLERANCE_MM:
        raise DatasetError(
            f"{path}: its grid lies {apart_mm:.3g} mm off that of {first_path} (at most {GRID_TOLERANCE_MM:g} mm). "
            "Predict both from the same images."
        )
