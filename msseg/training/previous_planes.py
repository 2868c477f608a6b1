"""What a cascade's second network sees of the first's prediction while it trains: planes, spoiled as predictions are.

In training the first network's masks are better than they will be on new images, or wrong elsewhere. Planes are grown,
shrunk, opened and closed, and components are left out, so that the second network does not take them at their word;
after Isensee et al. (2021), nnU-Net, whose probabilities these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from msseg.training.plane_draws import OPERATION_NAMES, PlaneDraws


def shown_planes(
    classes: torch.Tensor, planes: Sequence[Sequence[int]], draws: PlaneDraws | None = None
) -> torch.Tensor:
    """Planes (b, p, *patch) float32 of class maps (b, *patch), where they lie; without `draws` as they are.

    Where each plane shows one class, a voxel that one gains is lost by the others.
    """
    shown = torch.stack([_is_of(classes, of) for of in planes], dim=1)
    if draws is not None:
        exclusive = all(len(of) == 1 for of in planes)
        for sample, one in enumerate(shown):
            _change(one, draws, sample, exclusive)
            _lose(one, draws, sample)
    return shown.float()


def _is_of(classes: torch.Tensor, of: Sequence[int]) -> torch.Tensor:
    return torch.isin(classes, torch.tensor(of, dtype=classes.dtype, device=classes.device))


def _change(planes: torch.Tensor, draws: PlaneDraws, sample: int, exclusive: bool) -> None:
    """Grow, shrink, open or close the planes (p, *patch), bool, in place."""
    for plane in draws.order[sample]:
        operation = draws.operation[sample, plane]
        if operation < 0 or not planes[plane].any():
            continue
        before = planes[plane].clone()
        planes[plane] = OPERATIONS[operation](before, int(draws.radius[sample, plane]))
        if exclusive:
            gained = planes[plane] & ~before
            for other in range(len(planes)):
                if other != plane:
                    planes[other] &= ~gained


def _lose(planes: torch.Tensor, draws: PlaneDraws, sample: int) -> None:
    """Take a component out of each of the planes (p, *patch), bool, in place."""
    for plane, pick in enumerate(draws.pick[sample]):
        if pick >= 0:
            left = without_component(planes[plane].cpu().numpy(), float(pick), draws.largest)
            planes[plane] = torch.from_numpy(left).to(planes.device)


def without_component(plane: np.ndarray, pick: float, largest: float) -> np.ndarray:
    """The mask without one of its components, of those below the share `largest`: the one at `pick`, [0, 1).

    Voxels that touch at a corner are of one component.
    """
    components, count = ndimage.label(plane, np.ones((3,) * plane.ndim))
    sizes = np.bincount(components.reshape(-1), minlength=count + 1)[1:]
    candidates = 1 + np.flatnonzero(sizes < largest * plane.size)
    if not len(candidates):
        return plane
    return plane & (components != candidates[int(pick * len(candidates))])


def dilated(mask: torch.Tensor, radius: int) -> torch.Tensor:
    """All voxels within `radius` voxels of one of the mask (bool, any shape), by Euclid.

    Squared distances are looked for along one axis after another, no further than the radius: no ball is laid over
    every voxel.
    """
    square = torch.where(mask, 0, (radius + 1) ** 2).to(torch.int16)
    for axis, length in enumerate(mask.shape):
        nearest = square.clone()
        for offset in range(1, min(radius, length - 1) + 1):
            parts = (0, offset), (offset, 0)
            for to, source in parts:
                lower = nearest.narrow(axis, to, length - offset)
                torch.minimum(lower, square.narrow(axis, source, length - offset) + offset**2, out=lower)
        square = nearest
    return square <= radius**2


def eroded(mask: torch.Tensor, radius: int) -> torch.Tensor:
    """The voxels with none outside of the mask within `radius`; a patch goes on beyond its border as it is there."""
    return ~dilated(~mask, radius)


def opened(mask: torch.Tensor, radius: int) -> torch.Tensor:
    """The mask eroded, then dilated: without what is thinner than the ball."""
    return dilated(eroded(mask, radius), radius)


def closed(mask: torch.Tensor, radius: int) -> torch.Tensor:
    """The mask dilated, then eroded: with what is narrower than the ball filled."""
    return eroded(dilated(mask, radius), radius)


_BY_NAME = {"grow": dilated, "shrink": eroded, "open": opened, "close": closed}
OPERATIONS = tuple(_BY_NAME[name] for name in OPERATION_NAMES)
