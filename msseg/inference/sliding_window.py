"""Class scores of a whole image from a network that sees one patch at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from msseg.inference.answers import Network, rule_out
from msseg.inference.memory import patches_at_once
from msseg.inference.mirrors import Mirror, mirrored_axes
from msseg.inference.passes import Passes
from msseg.inference.placement import Placement, first_that_fits, placements
from msseg.inference.previous import Previous
from msseg.inference.streaming import View, Window, score_slabs
from msseg.mirroring import with_neighbours
from planning.label_pairs import Sides
from planning.plan import Configuration

_PAD_MODES: dict[str, Literal["constant", "reflect"]] = {"zeros": "constant", "mirror": "reflect"}


def predict_logits(
    networks: Sequence[Network],
    image_czyx: np.ndarray,
    configuration: Configuration,
    num_classes: int,
    device: torch.device,
    *,
    mirror: Mirror = True,
    step: float = 0.5,
    noise_repeats: int = 0,
    noise_std: float = 0.01,
    seed: int = 0,
    branches: str = "accurate",
    guidance: bool = True,
    regions: bool = False,
    sides: Sides | None = None,
    previous: Previous | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Mean logits (num_classes, z, y, x), float32, of a preprocessed image (c, z, y, x) in plan order.

    Every tile is shown once for each combination of the mirror axes that `mirrored_axes` has of `mirror`, and as often
    again with Gaussian noise of `noise_std` for each of `noise_repeats`; all these and all networks count alike,
    overlapping tiles by `axis_shares`. An image smaller than the patch is padded on both sides as the configuration
    says. A 2D configuration is shown slice by slice, with neighbouring slices as channels if it has such. `branches`
    says which branches of a network answer: see `answering`. With `guidance`, a class that the networks'
    classification-guided modules see in no tile of the image is ruled out; one patch's word does not empty the others.
    With `regions` the scores are of those, each by itself; `num_classes` counts them then. `sides` says which classes a
    view from the other side answers for each other. `previous` is what the second network of a cascade is shown beside
    the image. The networks lie on `device` and in evaluation mode; the result lies there too, unless its memory gave
    out. `on_batch(done, total)` counts forward passes; what it raises ends the prediction. ResourceError where memory
    gives out.
    """
    passes = Passes(networks, branches, guidance, regions)
    window = make_window(
        image_czyx,
        configuration,
        num_classes,
        passes,
        mirror=mirror,
        step=step,
        noise_repeats=noise_repeats,
        noise_std=noise_std,
        seed=seed,
        sides=sides,
        previous=previous,
    )
    ways = placements(device, batch_limit(device, window.patch))
    return first_that_fits(ways, lambda placement: _whole_scores(window, passes, placement, on_batch))


def make_window(
    image_czyx: np.ndarray,
    configuration: Configuration,
    num_classes: int,
    passes: Passes,
    *,
    mirror: Mirror = True,
    step: float = 0.5,
    noise_repeats: int = 0,
    noise_std: float = 0.01,
    seed: int = 0,
    sides: Sides | None = None,
    previous: Previous | None = None,
) -> Window:
    """How a preprocessed image (c, z, y, x) is shown to the networks of `passes`; see `predict_logits`."""
    patch = (1,) * (3 - configuration.dimensions) + configuration.patch_size
    padded, inner = pad_to_patch(image_czyx, patch, configuration.image_padding)
    neighbours = configuration.neighbour_slices
    return Window(
        image=with_neighbours(padded, neighbours) if neighbours else padded,
        inner=inner,
        patch=patch,
        dimensions=configuration.dimensions,
        step=step,
        views=_views(mirrored_axes(configuration.mirror_axes, mirror), configuration.dimensions, noise_repeats, sides),
        num_classes=num_classes,
        networks=passes.count,
        guided=passes.guided,
        noise_std=noise_std,
        seed=seed,
        previous=None if previous is None else _padded_like(padded, inner, previous, configuration.image_padding),
    )


def _padded_like(padded: np.ndarray, inner: Sequence[slice], previous: Previous, padding: str) -> Previous:
    """The class map with the padding of its image."""
    widths = [(side.start, length - side.stop) for side, length in zip(inner, padded.shape[1:], strict=True)]
    return previous.padded(widths, _PAD_MODES[padding])


def batch_limit(device: torch.device, patch: Sequence[int]) -> int:
    """How many tiles go through the network at once on this kind of device."""
    return patches_at_once(device.type, math.prod(patch), torch.get_num_threads())


def pad_to_patch(
    image_czyx: np.ndarray, patch: Sequence[int], padding: str = "zeros"
) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The float32 image with 0 around it, no axis shorter than the patch, and the slices where the image lies in it.

    With the `padding` "mirror" it is its mirror image that lies around it, as in training.
    What is missing is added half before and half behind, the odd voxel behind. A read-only image (one mapped from the
    store) is copied: torch has no tensors that must not be written.
    """
    missing = [max(size - length, 0) for size, length in zip(patch, image_czyx.shape[1:], strict=True)]
    before = [extra // 2 for extra in missing]
    widths = [(0, 0), *((low, extra - low) for low, extra in zip(before, missing, strict=True))]
    inner = tuple(slice(low, low + n) for low, n in zip(before, image_czyx.shape[1:], strict=True))
    padded = np.pad(image_czyx, widths, _PAD_MODES[padding]) if any(missing) else image_czyx
    return np.require(padded, np.float32, ["C", "W"]), inner


def _whole_scores(
    window: Window, passes: Passes, placement: Placement, on_batch: Callable[[int, int], None] | None
) -> torch.Tensor:
    """The slabs put together, and what guidance rules out."""
    seen_classes = torch.zeros(window.num_classes - 1, dtype=torch.bool) if passes.guided else None
    with passes.session(placement.device):
        scores = torch.empty((window.num_classes, *window.shape), device=placement.keep_on)
        by_rows = scores.movedim(1 + window.axis, 1)
        done = 0
        for slab in score_slabs(window, passes.on(placement.device), placement, seen_classes, on_batch):
            by_rows[:, done : done + slab.shape[1]] = slab
            done += slab.shape[1]
        if seen_classes is not None:
            rule_out(scores, seen_classes)
    return scores


def _views(
    mirror_axes: Sequence[int], dimensions: int, noise_repeats: int, sides: Sides | None = None
) -> tuple[View, ...]:
    from_end = [axis - dimensions for axis in mirror_axes]
    flips = [chosen for count in range(len(from_end) + 1) for chosen in itertools.combinations(from_end, count)]
    swapped = {chosen: sides.outputs for chosen in flips if sides is not None and sides.axis - dimensions in chosen}
    return tuple(
        View(chosen, noisy=repeat > 0, classes=swapped.get(chosen, ()))
        for repeat in range(noise_repeats + 1)
        for chosen in flips
    )
