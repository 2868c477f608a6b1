"""Class scores of a whole image from a network that sees one patch at a time."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from msseg.devices import autocast_dtype
from msseg.inference.answers import Answer, Network, answering, is_guided, rule_out, seen
from msseg.inference.tiles import gaussian_importance, tile_corners
from planning.plan import Configuration

_Item = TypeVar("_Item")

# Voxels of input that go through the network at once. On a CPU one patch already fills the cores and further ones
# only leave the cache; on a GPU a patch of the largest usual size (128³) is taken eight-fold, as its mirrors.
_VOXELS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 24, "mps": 1 << 21}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """One way to show a tile to the network: flipped along `flips` (axes counted from the end), with noise or not."""

    flips: tuple[int, ...]
    noisy: bool


def predict_logits(
    networks: Sequence[Network],
    image_czyx: np.ndarray,
    configuration: Configuration,
    num_classes: int,
    device: torch.device,
    *,
    mirror: bool = True,
    step: float = 0.5,
    noise_repeats: int = 0,
    noise_std: float = 0.01,
    seed: int = 0,
    branches: str = "accurate",
    guidance: bool = True,
    on_batch: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Mean logits (num_classes, z, y, x), float32, of a preprocessed image (c, z, y, x) in plan order.

    Every tile is shown once for each combination of the configuration's mirror axes (only as it is if not `mirror`),
    and as often again with Gaussian noise of `noise_std` for each of `noise_repeats`; all these and all networks
    count alike, overlapping tiles by `gaussian_importance`. An image smaller than the patch is padded with 0 on both
    sides. A 2D configuration is shown slice by slice. `branches` says which branches of a network answer: see
    `answering`. With `guidance`, a class that the networks' classification-guided modules see in no tile of the image
    is ruled out; one patch's word does not empty the others. The networks lie on `device` and in evaluation mode; the
    result does too, unless its memory gave out. `on_batch(done, total)` counts forward passes; what it raises
    ends the prediction.
    """
    patch = (1,) * (3 - configuration.dimensions) + configuration.patch_size
    padded, (depth, height, width) = pad_to_patch(image_czyx, patch)
    window = _Window(
        networks=[answering(network, branches, guidance) for network in networks],
        patch=patch,
        dimensions=configuration.dimensions,
        corners=tile_corners(padded.shape[1:], patch, step),
        views=_views(configuration.mirror_axes if mirror else (), configuration.dimensions, noise_repeats),
        num_classes=num_classes,
        device=device,
        noise_std=noise_std,
        seed=seed,
        guided=sum(map(is_guided, networks)) if guidance else 0,
    )
    with torch.inference_mode(), _autocast(device):
        logits = _within_memory(window, torch.from_numpy(padded), on_batch)
    return logits[:, depth, height, width]


def pad_to_patch(image_czyx: np.ndarray, patch: Sequence[int]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The float32 image with 0 around it, no axis shorter than the patch, and the slices where the image lies in it.

    What is missing is added half before and half behind, the odd voxel behind. A read-only image (one mapped from the
    store) is copied: torch has no tensors that must not be written.
    """
    missing = [max(size - length, 0) for size, length in zip(patch, image_czyx.shape[1:], strict=True)]
    before = [extra // 2 for extra in missing]
    widths = [(0, 0), *((low, extra - low) for low, extra in zip(before, missing, strict=True))]
    inner = tuple(slice(low, low + n) for low, n in zip(before, image_czyx.shape[1:], strict=True))
    padded = np.pad(image_czyx, widths) if any(missing) else image_czyx
    return np.require(padded, np.float32, ["C", "W"]), inner


@dataclass(frozen=True)
class _Window:
    """All that one prediction needs besides the image; `guided` networks say which classes are present."""

    networks: list[Callable[[torch.Tensor], Answer]]
    patch: tuple[int, ...]
    dimensions: int
    corners: list[tuple[int, ...]]
    views: list[View]
    num_classes: int
    device: torch.device
    noise_std: float
    seed: int
    guided: int = 0

    @property
    def batch_size(self) -> int:
        return max(1, _VOXELS_AT_ONCE.get(self.device.type, 1) // math.prod(self.patch))


def _views(mirror_axes: Sequence[int], dimensions: int, noise_repeats: int) -> list[View]:
    from_end = [axis - dimensions for axis in mirror_axes]
    flips = [chosen for count in range(len(from_end) + 1) for chosen in itertools.combinations(from_end, count)]
    return [View(chosen, noisy=repeat > 0) for repeat in range(noise_repeats + 1) for chosen in flips]


def _within_memory(window: _Window, image: torch.Tensor, on_batch: Callable[[int, int], None] | None) -> torch.Tensor:
    """`_accumulate` with everything on the device, or what of it the device's memory holds."""
    if window.device.type != "cuda":
        return _accumulate(window, image, window.device, window.batch_size, on_batch)
    for keep_on in (window.device, torch.device("cpu")):
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            return _accumulate(window, image, keep_on, window.batch_size, on_batch)
        # Only here, when the error is gone, are the tensors gone that its traceback held.
        torch.cuda.empty_cache()
        _say_once("The GPU's memory does not hold the scores of a whole image: they are kept in main memory.")
    return _accumulate(window, image, torch.device("cpu"), 1, on_batch)


def _accumulate(
    window: _Window,
    image: torch.Tensor,
    keep_on: torch.device,
    batch_size: int,
    on_batch: Callable[[int, int], None] | None,
) -> torch.Tensor:
    image = image.to(keep_on)
    scores = torch.zeros((window.num_classes, *image.shape[1:]), device=keep_on)
    presence = torch.zeros((len(window.corners), window.num_classes - 1), device=keep_on) if window.guided else None
    importance = torch.from_numpy(gaussian_importance(window.patch)).to(keep_on)
    noise = torch.Generator(device=window.device).manual_seed(window.seed)
    shown = list(itertools.product(range(len(window.corners)), window.views))
    for done, batch in enumerate(_batches(shown, batch_size)):
        corners, views = [window.corners[tile] for tile, _ in batch], [view for _, view in batch]
        tiles = torch.stack([_show(window, image, *each) for each in zip(corners, views, strict=True)])
        tiles = tiles.to(window.device)
        _add_noise(tiles, views, window.noise_std, noise)
        answer = _forward(window, tiles)
        for item, corner, view in zip(answer.logits.to(keep_on), corners, views, strict=True):
            scores[_region(window, corner)] += _as_tile(window, item, view) * importance
        if presence is not None and answer.presence is not None:
            indices = torch.tensor([tile for tile, _ in batch], device=keep_on)
            presence.index_add_(0, indices, answer.presence.to(keep_on))
        if on_batch is not None:
            on_batch(done + 1, math.ceil(len(shown) / batch_size))
    views_and_networks = len(window.views) * len(window.networks)
    scores.div_(_total_importance(window, image.shape[1:], importance) * views_and_networks)
    if presence is not None:
        rule_out(scores, seen(presence / (len(window.views) * window.guided)))
    return scores


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _region(window: _Window, corner: tuple[int, ...]) -> tuple[slice, ...]:
    spans = (slice(low, low + size) for low, size in zip(corner, window.patch, strict=True))
    return (slice(None), *spans)


def _show(window: _Window, image: torch.Tensor, corner: tuple[int, ...], view: View) -> torch.Tensor:
    """One tile as the network sees it: (c, z, y, x), or (c, y, x) in 2D."""
    tile = image[_region(window, corner)]
    tile = tile[:, 0] if window.dimensions == 2 else tile
    return tile.flip(view.flips)


def _as_tile(window: _Window, logits: torch.Tensor, view: View) -> torch.Tensor:
    """The logits of one shown tile where the tile lies in the image: (k, z, y, x), float32."""
    logits = logits.float().flip(view.flips)
    return logits[:, None] if window.dimensions == 2 else logits


def _add_noise(tiles: torch.Tensor, views: list[View], std: float, generator: torch.Generator) -> None:
    for tile, view in zip(tiles, views, strict=True):
        if view.noisy:
            tile += std * torch.randn(tile.shape, generator=generator, device=tile.device)


def _forward(window: _Window, tiles: torch.Tensor) -> Answer:
    """Sums over the networks of their logits (b, k, *spatial) and of what they say of presence."""
    return functools.reduce(Answer.__add__, (network(tiles) for network in window.networks))


def _total_importance(window: _Window, shape: Sequence[int], importance: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(tuple(shape), device=importance.device)
    for corner in window.corners:
        total[_region(window, corner)[1:]] += importance
    return total


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    dtype = autocast_dtype(device)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@functools.cache
def _say_once(message: str) -> None:
    _log.warning(message)
