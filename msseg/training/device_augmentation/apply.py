"""A batch as read becomes one to train on: what was drawn, done with torch where the batch lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from msseg.training.augmentation import GRID_POINTS, Augmentation, unshifted_size
from msseg.training.device_augmentation.draws import Draws
from msseg.training.device_augmentation.intensity import Context, change_intensities, invert, mix_colours
from msseg.training.device_augmentation.interpolation import outside_of, sample_image, sample_label
from msseg.training.device_augmentation.separable import along_axes, gaussian_matrix, natural_matrix, to_device
from msseg.training.sampling import PADDING_IMAGE, PADDING_LABEL
from planning.label_pairs import Sides

Pair = tuple[torch.Tensor, torch.Tensor]


@torch.no_grad()
def augment(
    image: torch.Tensor,
    label: torch.Tensor,
    draws: Draws,
    row: Augmentation,
    patch_size: Sequence[int],
    dummy_2d: bool = False,
    colour_channels: Sequence[int] = (),
    sides: Sides | None = None,
    rows: range | None = None,
) -> Pair:
    """Image (b, c, *patch) float32 and label (b, *patch) of what was read at `draws.read_size`, on the same device.

    Several maps of labels (b, m, *patch) are all moved alike.

    The same transforms in the same order as `worker_augmentation`'s. `colour_channels` says where red, green and blue
    lie; without them no colour is changed. `sides` says what a mirror from side to side makes of the classes.
    `rows` are the samples that image and label hold of those that were drawn for, by default all: they become what they
    would become among all.
    """
    generator = torch.Generator(image.device).manual_seed(draws.seed)
    channels, maps = image.shape[1], label.shape[1 : label.ndim - len(patch_size)]
    of_all, rows = draws, rows or range(len(draws.window))
    draws = of_all.of(rows)
    pair = _folded(image, dummy_2d), _folded(label if maps else label[:, None], dummy_2d)
    if row.shift:
        pair = _in_view(pair, draws, unshifted_size(row, patch_size, dummy_2d)[int(dummy_2d) :])
    pair = _quarter_turned(pair, draws)
    pair = _grid_moved(pair, draws, row)
    image, label = _placed(pair, of_all, rows, row, tuple(patch_size[int(dummy_2d) :]), generator)
    image = image.reshape(len(image), channels, *patch_size)
    label = label.reshape(len(label), *maps, *patch_size)
    invert(image, draws)
    mix_colours(image, draws, colour_channels)
    change_intensities(image, of_all, rows, Context(generator, row.image_order, dummy_2d))
    _mirror((image, label), draws)
    if sides is not None:
        _swap_sides(label, draws.mirrored[:, sides.axis], sides)
    return image, label


def _folded(x: torch.Tensor, dummy_2d: bool) -> torch.Tensor:
    """With dummy-2D the first axis among the channels, so that all slices move alike."""
    return x.flatten(1, 2) if dummy_2d else x


def _in_view(pair: Pair, draws: Draws, size: Sequence[int]) -> Pair:
    image, label = (torch.stack([_window(x[b], draws.window[b], size) for b in range(len(x))]) for x in pair)
    return image, label


def _window(x: torch.Tensor, lower: np.ndarray, size: Sequence[int]) -> torch.Tensor:
    for axis, (low, length) in enumerate(zip(lower.tolist(), size, strict=True), start=1):
        x = x.narrow(axis, low, length)
    return x


def _quarter_turned(pair: Pair, draws: Draws) -> Pair:
    for sample in np.flatnonzero(draws.quarter_turns):
        for x in pair:
            x[sample] = torch.rot90(x[sample], int(draws.quarter_turns[sample]), (-2, -1)).clone()
    return pair


def _grid_moved(pair: Pair, draws: Draws, row: Augmentation) -> Pair:
    """Samples moved by the smooth field through their coarse points, on the region that is in view."""
    chosen = np.flatnonzero(draws.grid.any(axis=tuple(range(1, draws.grid.ndim))))
    shape = tuple(pair[0].shape[2:])
    matrices = [natural_matrix(edge, GRID_POINTS) for edge in shape]
    for samples in _groups(chosen, pair[0].device):
        field = along_axes(to_device(draws.grid[samples], pair[0].device), matrices)  # (m, d, *shape)
        grid = _arange(shape, [0.0] * len(shape), pair[0].device)
        places = [field[:, axis] + grid[axis] for axis in range(len(shape))]
        for x, sampled in zip(pair, _sampled(pair, samples, places, row), strict=True):
            x[samples] = sampled
    return pair


def _placed(
    pair: Pair, draws: Draws, rows: range, row: Augmentation, size: tuple[int, ...], generator: torch.Generator
) -> Pair:
    """The patches out of the middle, elastically deformed, turned and scaled where that was drawn.

    `draws` are of all samples, the pair of those in `rows`.
    """
    image, label = pair
    device, shape = image.device, tuple(image.shape[2:])
    middle = np.array([(whole - part) // 2 for whole, part in zip(shape, size, strict=True)])
    result = image.new_empty(*image.shape[:2], *size), label.new_empty(*label.shape[:2], *size)
    for sample in np.flatnonzero(~draws.moved[rows.start : rows.stop]):
        for x, cut in zip(pair, result, strict=True):
            cut[sample] = _window(x[sample], middle, size)
    grid = _arange(size, [(edge - 1) / 2 for edge in size], device)
    centre = [(edge - 1) / 2 for edge in shape]
    for group in _groups(np.flatnonzero(draws.moved), device):
        noise = _elastic_noise(draws.elastic[group], size, generator)
        kept = [place for place, sample in enumerate(group) if sample in rows]
        if not kept:
            continue
        drawn, samples = [group[place] for place in kept], [group[place] - rows.start for place in kept]
        bent = grid if noise is None else _bent(grid, draws.elastic[drawn], noise[kept])
        matrices = to_device(draws.matrices[drawn], device)
        places = [_linear_form(matrices[:, axis], bent) + centre[axis] for axis in range(len(size))]
        reach = np.abs(draws.matrices[drawn]) @ (np.array(size) - 1)
        all_inside = not draws.elastic[drawn, 0].any() and bool((reach <= np.array(shape) - 1).all())
        for x, sampled in zip(result, _sampled(pair, samples, places, row, all_inside), strict=True):
            x[samples] = sampled
    return result


def _groups(samples: np.ndarray, device: torch.device) -> list[list[int]]:
    """The samples to do at a time: one after another on a CPU, whose cache holds one, all on other devices."""
    chosen: list[int] = samples.tolist()
    if device.type == "cpu":
        return [[sample] for sample in chosen]
    return [chosen] if chosen else []


def _arange(shape: Sequence[int], centre: Sequence[float], device: torch.device) -> list[torch.Tensor]:
    """The voxel's number on each axis, less the centre, shaped to be broadcast over (m, *shape)."""
    axes = range(len(shape))
    return [
        (torch.arange(shape[axis], dtype=torch.float32, device=device) - centre[axis]).reshape(
            [1, *(shape[axis] if other == axis else 1 for other in axes)]
        )
        for axis in axes
    ]


def _elastic_noise(elastic: np.ndarray, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor | None:
    """Noise (m, d, *size) from -1 to 1 for samples that bend; None where none does."""
    if not elastic[:, 0].any():
        return None
    shape = (len(elastic), len(size), *size)
    return torch.rand(shape, generator=generator, device=generator.device).mul_(2).sub_(1)


def _bent(grid: list[torch.Tensor], elastic: np.ndarray, noise: torch.Tensor) -> list[torch.Tensor]:
    """The places moved by noise on every voxel, smoothed with the sample's sigma, times its alpha."""
    size = tuple(noise.shape[2:])
    fields = [
        along_axes(sample, [gaussian_matrix(edge, sigma, "zero") for edge in size]) * alpha
        for sample, (alpha, sigma) in zip(noise, elastic.tolist(), strict=True)
    ]
    field = torch.stack(fields)  # (m, d, *size)
    return [line + field[:, axis] for axis, line in enumerate(grid)]


def _linear_form(weights: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    """The sum of the places of all axes, each times the sample's weight (m, d)."""
    form = [weights[:, axis].reshape(-1, *(1,) * len(places)) * place for axis, place in enumerate(places)]
    total = form[0]
    for part in form[1:]:
        total = total + part
    return total


def _sampled(
    pair: Pair, samples: list[int], places: list[torch.Tensor], row: Augmentation, all_inside: bool = False
) -> Pair:
    """The samples at `places`; what lies outside is padding, which is not looked for where all lie inside."""
    # One sample is looked at where it lies, several are gathered.
    image, label = (x[samples[0]][None] if len(samples) == 1 else x[samples] for x in pair)
    moved = sample_image(image, places, row.image_order), sample_label(label, places, row.label_order)
    if not all_inside:
        outside = outside_of(places, image.shape[2:])[:, None]
        for x, padding in zip(moved, (PADDING_IMAGE, PADDING_LABEL), strict=True):
            x.masked_fill_(outside, padding)
    return moved


def _mirror(pair: Pair, draws: Draws) -> None:
    for sample, axes in enumerate(draws.mirrored):
        chosen = np.flatnonzero(axes).tolist()
        if not chosen:
            continue
        for x in pair:
            first = x.ndim - len(axes)  # the axes of the patch are the last
            x[sample] = x[sample].flip([first - 1 + axis for axis in chosen])


def _swap_sides(label: torch.Tensor, mirrored: np.ndarray, sides: Sides) -> None:
    """Give the classes of the samples that were mirrored from side to side their partners' indices, in place."""
    # The padding's -1 finds itself at the end.
    table = torch.tensor([*sides.classes, PADDING_LABEL], dtype=label.dtype, device=label.device)
    for sample in np.flatnonzero(mirrored).tolist():
        label[sample] = table[label[sample].long()]
