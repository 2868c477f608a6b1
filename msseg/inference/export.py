"""From class scores on the preprocessed grid to a label map on the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from msseg.inference.collectors import LargestClass
from msseg.inference.score_stream import ScoreStream


def resampled_labels(
    logits: torch.Tensor, new_shape: Sequence[int], order: int, separate: int | None = None
) -> np.ndarray:
    """The class (z, y, x) of the largest of the scores (k, z, y, x), on the grid `new_shape`; see `ScoreStream`.

    uint8, uint16 beyond 256 classes; a tie goes to the lower class.
    """
    largest = LargestClass(len(logits), new_shape)
    with torch.inference_mode():
        ScoreStream([largest], logits.shape[1:], new_shape, order, separate).push(logits)
        return largest.labels()


def uncropped(label: np.ndarray, crop_box: Sequence[Sequence[int]], shape_before_crop: Sequence[int]) -> np.ndarray:
    """A label map of `shape_before_crop` with `label` at `crop_box` ((lower, upper) of each axis), 0 around it."""
    whole = np.zeros(tuple(shape_before_crop), label.dtype)
    whole[tuple(slice(lower, upper) for lower, upper in crop_box)] = label
    return whole


def in_file_order(volume: np.ndarray, axis_order: Sequence[int]) -> np.ndarray:
    """A contiguous volume in the axes of the file, from one that was transposed by `axis_order`."""
    return np.ascontiguousarray(volume.transpose(np.argsort(axis_order)))
