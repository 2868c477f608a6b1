"""Masks as runs of pixels: pairs of first pixel and length, numbered from 1 down the columns, as Kaggle counts.

The pixel of row y and column x of an image of `height` rows has the number x · height + y + 1.
"""

from __future__ import annotations

import re

import numpy as np

_NUMBER = re.compile(r"\d{1,18}")
_NUMBERS_NAMED = 3


class RunLengthError(ValueError):
    """An encoding that is none: `found` and `expected` say why."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.found, self.expected = found, expected

    def __str__(self) -> str:
        return f"{self.found}; expected {self.expected}"


def encode(mask_yx: np.ndarray) -> np.ndarray:
    """The runs (n, 2) int64 of the true pixels: first pixel and length, ascending; none of an empty mask."""
    return encode_objects(np.asarray(mask_yx) != 0).get(1, np.empty((0, 2), np.int64))


def encode_objects(ids_yx: np.ndarray) -> dict[int, np.ndarray]:
    """The runs (n, 2) of every object by its number, ascending; 0 is the background."""
    values = np.asarray(ids_yx).T.reshape(-1)
    if values.size == 0:
        return {}
    first = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    runs = np.stack([first + 1, np.diff(np.append(first, values.size))], axis=1)
    owner = values[first]
    order = np.argsort(owner, kind="stable")
    ids, starts = np.unique(owner[order], return_index=True)
    parts = np.split(runs[order], starts[1:])
    return {int(number): part for number, part in zip(ids, parts, strict=True) if number != 0}


def decode(runs: np.ndarray, shape_yx: tuple[int, int]) -> np.ndarray:
    """The mask (y, x) bool of runs (n, 2); RunLengthError where one leaves the image."""
    height, width = shape_yx
    ends = runs[:, 0] + runs[:, 1] - 1
    if len(runs) and ends.max() > height * width:
        raise RunLengthError(f"pixel {ends.max()}", f"at most {height * width} in {width} x {height} pixels")
    mask = np.zeros(height * width, bool)
    for start, length in runs:
        mask[start - 1 : start - 1 + length] = True
    return mask.reshape(width, height).T


def runs_text(runs: np.ndarray) -> str:
    """The runs as numbers between spaces."""
    return " ".join(map(str, runs.reshape(-1).tolist()))


def runs_from_text(text: str) -> np.ndarray:
    """The runs (n, 2) of an encoding, in its own order; () of a blank one.

    Raises RunLengthError for what is no whole number of at least 1, and for an odd count. Order and overlap are the
    caller's to judge (`order_fault`).
    """
    words = text.split()
    bad = [word for word in words if not _NUMBER.fullmatch(word) or int(word) == 0]
    if bad:
        named = ", ".join(repr(word) for word in bad[:_NUMBERS_NAMED])
        raise RunLengthError(f"{named} in the encoding", "whole numbers of at least 1")
    if len(words) % 2:
        raise RunLengthError(f"an odd count of numbers ({len(words)})", "pairs of first pixel and length")
    return np.array([int(word) for word in words], np.int64).reshape(-1, 2)


def order_fault(runs: np.ndarray) -> RunLengthError | None:
    """What is wrong with the order of an object's runs: not ascending, or overlapping; None where nothing is."""
    starts, ends = runs[:, 0], runs[:, 0] + runs[:, 1]
    late = np.flatnonzero(starts[1:] < starts[:-1])
    if late.size:
        here = int(late[0])
        return RunLengthError(f"the run at {starts[here + 1]} after that at {starts[here]}", "runs in ascending order")
    over = np.flatnonzero(starts[1:] < ends[:-1])
    if over.size:
        here = int(over[0])
        return RunLengthError(
            f"the run at {starts[here + 1]} inside that of {starts[here]} to {ends[here] - 1}", "every pixel once"
        )
    return None
