"""Border weights of U-Net: background between two cells that nearly touch weighs most."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from msseg.instances.coding import BORDER
from msseg.losses.cross_entropy import cross_entropy_per_voxel, labelled_mean

_NEGLIGIBLE = 6  # widths sigma of d1 + d2, where the exponential is 1.5e-8
_Box = tuple[slice, ...]

# A step asks for the same target's weights once a branch; a target that was written to since is weighed anew.
_KEPT: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def border_cross_entropy(
    log_probabilities: torch.Tensor,
    target: torch.Tensor,
    class_weights: torch.Tensor,
    w0: float,
    sigma_px: float,
    instances: torch.Tensor | None = None,
    levels: bool = False,
) -> torch.Tensor:
    """The mean over the voxels with a label of (w_y + w0 exp(-(d1 + d2)² / 2σ²)) (-log p_y), a scalar >= 0.

    `class_weights` (k,), taken relative to their mean, so that w0 weighs as in the paper. `log_probabilities`
    (b, k, *spatial); `instances` as in `border_weights`, by default those of `target`, whose classes are `levels` or
    labels. Source: Ronneberger et al. 2015, equation 2.
    """
    relative = class_weights * (len(class_weights) / class_weights.sum())
    if instances is None:
        borders = _kept_weights(target, w0, sigma_px, levels)
    else:
        borders = border_weights(instances, w0, sigma_px)
    weights = relative[target.clamp(min=0)] + borders.to(log_probabilities.dtype)
    return labelled_mean(weights * cross_entropy_per_voxel(log_probabilities, target), target)


def _kept_weights(target: torch.Tensor, w0: float, sigma_px: float, levels: bool) -> torch.Tensor:
    key = (None if target.is_inference() else target._version, w0, sigma_px, levels)
    kept = _KEPT.get(target)
    if kept is None or kept[0] != key:
        kept = key, border_weights(instances_of(target, levels), w0, sigma_px).to(target.device, non_blocking=True)
        _KEPT[target] = kept
    return kept[1]


def instances_of(target: torch.Tensor, levels: bool = False) -> torch.Tensor:
    """Numbered instances (b, *spatial) int32 on the CPU: what is connected by faces within one foreground class.

    So two cells of one class that touch are one: only background between cells can tell them apart. Of `levels` (see
    `msseg.instances.coding`) rim and core together are cells, whatever touches; their border counts as between them.
    """
    components = _pieces_of_cells if levels else _components
    return torch.from_numpy(np.stack([components(sample) for sample in target.cpu().numpy()]))


def _pieces_of_cells(levels: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    instances = np.empty(levels.shape, np.int32)
    ndimage.label(levels > BORDER, np.ones((3,) * levels.ndim), output=instances)
    return instances


def _components(labels: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    instances = np.zeros(labels.shape, dtype=np.int32)
    for label in np.unique(labels[labels > 0]):
        parts, _ = ndimage.label(labels == label)
        instances += np.where(parts > 0, parts + instances.max(), 0)
    return instances


def border_weights(instances: torch.Tensor, w0: float = 10.0, sigma_px: float = 5.0) -> torch.Tensor:
    """w0 exp(-(d1 + d2)² / 2σ²) on the background (b, *spatial) float32, on the device of `instances`.

    `instances` (b, *spatial): cells numbered from 1, everything else 0 or negative. d1 and d2 are the distances in
    voxels to the nearest cell and the second nearest. 0 inside cells, where a sample has fewer than two cells, and
    beyond six σ, where it would be below 10⁻⁷ of w0. Computed on the CPU.
    """
    maps = [_border_map(sample, w0, sigma_px) for sample in instances.cpu().numpy()]
    return torch.from_numpy(np.stack(maps)).to(instances.device, non_blocking=True)


def _border_map(instances: np.ndarray, w0: float, sigma_px: float) -> np.ndarray:
    nearest, second = _two_distances(instances, _NEGLIGIBLE * sigma_px)
    weights = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma_px**2))
    return np.where(instances > 0, np.float32(0), weights.astype(np.float32))


def _two_distances(instances: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the nearest and the second nearest instance, infinite where it is further than `reach`."""
    from scipy import ndimage

    nearest = np.full(instances.shape, np.inf)
    second = np.full(instances.shape, np.inf)
    for number, box in enumerate(ndimage.find_objects(np.maximum(instances, 0)), start=1):
        if box is None:
            continue
        around = _widened(box, math.ceil(reach), instances.shape)
        distance = ndimage.distance_transform_edt(instances[around] != number)
        distance[distance > reach] = np.inf
        second[around] = np.minimum(second[around], np.maximum(nearest[around], distance))
        nearest[around] = np.minimum(nearest[around], distance)
    return nearest, second


def _widened(box: _Box, reach: int, shape: tuple[int, ...]) -> _Box:
    return tuple(
        slice(max(0, part.start - reach), min(length, part.stop + reach))
        for part, length in zip(box, shape, strict=True)
    )
