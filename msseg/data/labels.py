"""Label values as they stand in files, and the class indices 0 … K-1 the rest of the pipeline works on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from msseg.data.image import smallest_integer_type
from msseg.errors import DatasetError

_BLOCK_VOXELS = 1 << 20  # numpy turns indices into 64 bits: block by block, a 512³ label costs 8 MB, not 1 GB
_MAX_TABLE_ENTRIES = 1 << 20
_MAX_VALUES_NAMED = 8

_MOST_OF_INT8 = 127

IGNORED = -1  # the class index of what nobody annotated


class UndeclaredValuesError(DatasetError):
    """A label map holds values that the data set does not declare; `counts` maps each to its voxels."""

    def __init__(self, counts: dict[int, int], declared: tuple[int, ...]) -> None:
        super().__init__(counts, declared)
        self.counts, self.declared = counts, declared

    def __str__(self) -> str:
        return (
            f"label values that dataset.json does not declare: {self.found()}; expected "
            f"{', '.join(map(str, self.declared))}. Declare them, or export the label again."
        )

    def found(self) -> str:
        """The values with their voxel counts, in words."""
        named = [f"{value} ({count} voxels)" for value, count in list(self.counts.items())[:_MAX_VALUES_NAMED]]
        rest = len(self.counts) - len(named)
        return ", ".join(named) + (f" and {rest} more values" if rest else "")


class LabelCoding(Protocol):
    """Between what label files hold and class indices: a `LabelMap`, or the coding of objects as levels."""

    @property
    def values(self) -> tuple[int, ...]:
        """One value a class."""

    def to_index(self, label: np.ndarray) -> np.ndarray:
        """Class indices of the shape of `label`."""

    def to_values(self, index: np.ndarray) -> np.ndarray:
        """The values of class indices."""


@dataclass(frozen=True)
class LabelMap:
    """The values of a data set's classes; the class index is the position. Reversible: no value stands twice.

    `ignore` is the value of voxels that nobody annotated, whose index is `IGNORED`; None where there is none.
    """

    values: tuple[int, ...]
    ignore: int | None = None

    def __post_init__(self) -> None:
        if len({*self.values, self.ignore}) != len(self.values) + 1 or not self.values:
            raise DatasetError(f"label values {self.values}: expected at least one, and none of them twice.")

    def to_index(self, label: np.ndarray) -> np.ndarray:
        """Class indices of the shape of `label`, uint8 (uint16 from 256 classes on); signed where there is an `ignore`.

        Raises UndeclaredValuesError that lists every undeclared value with its number of voxels.
        """
        if self.ignore is not None:
            return self._with_ignored(label, self.ignore)
        num_classes = len(self.values)
        index = np.empty(label.shape, np.uint8 if num_classes < 256 else np.uint16)
        if label.size == 0:
            return index
        if self.values == tuple(range(num_classes)):
            if label.min() < 0 or label.max() >= num_classes:
                raise UndeclaredValuesError(self._undeclared(label), self.values)
            np.copyto(index, label, casting="unsafe")
            return index
        lookup = self._lookup()
        has_undeclared = False
        for source, target in zip(_blocks(label), _blocks(index), strict=True):
            target[...] = lookup(source)
            has_undeclared |= bool((target == num_classes).any())
        if has_undeclared:
            raise UndeclaredValuesError(self._undeclared(label), self.values)
        return index

    def to_values(self, index: np.ndarray) -> np.ndarray:
        """The values of class indices, in the smallest integer type that holds every class's value."""
        table = np.array(self.values, smallest_integer_type(min(self.values), max(self.values)))
        label = np.empty(index.shape, table.dtype)
        for source, target in zip(_blocks(index), _blocks(label), strict=True):
            np.take(table, source, out=target)
        return label

    def _with_ignored(self, label: np.ndarray, ignore: int) -> np.ndarray:
        """Class indices where `ignore` is looked up as one more class, the last, and then is `IGNORED`."""
        classes = LabelMap((*self.values, ignore)).to_index(label)
        index = np.empty(label.shape, np.int8 if len(self.values) <= _MOST_OF_INT8 else np.int16)
        for source, target in zip(_blocks(classes), _blocks(index), strict=True):
            np.copyto(target, source, casting="unsafe")
            target[source == len(self.values)] = IGNORED
        return index

    def _lookup(self) -> _Lookup:
        return _Lookup(self.values)

    def _undeclared(self, label: np.ndarray) -> dict[int, int]:
        counts: dict[int, int] = {}
        for block in _blocks(label):
            present, voxels = np.unique(block, return_counts=True)
            for value, count in zip(present.tolist(), voxels.tolist(), strict=True):
                if value not in self.values:
                    counts[value] = counts.get(value, 0) + count
        return dict(sorted(counts.items()))


class _Lookup:
    """Class index of each value, K for a value that is none; a table where the values lie close, else a search."""

    def __init__(self, values: tuple[int, ...]) -> None:
        self.lowest, self.highest = min(values), max(values)
        self.missing = len(values)
        self.order = np.argsort(np.array(values, np.int64))
        self.sorted = np.array(values, np.int64)[self.order]
        self.table: np.ndarray | None = None
        if self.highest - self.lowest < _MAX_TABLE_ENTRIES:
            self.table = np.full(self.highest - self.lowest + 1, self.missing, np.uint16)
            self.table[self.sorted - self.lowest] = self.order

    def __call__(self, block: np.ndarray) -> np.ndarray:
        wide = block.astype(np.int64)
        if self.table is not None and wide.min() >= self.lowest and wide.max() <= self.highest:
            return self.table[wide - self.lowest]
        is_inside = (wide >= self.lowest) & (wide <= self.highest)
        clipped = np.clip(wide, self.lowest, self.highest)
        if self.table is not None:
            return np.where(is_inside, self.table[clipped - self.lowest], self.missing)
        position = np.searchsorted(self.sorted, clipped)
        return np.where(is_inside & (self.sorted[position] == wide), self.order[position], self.missing)


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Flat views of at most a million voxels that cover the array in order (a copy where it is not contiguous)."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK_VOXELS):
        yield flat[start : start + _BLOCK_VOXELS]
