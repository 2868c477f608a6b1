"""The intensities of a batch, changed channel by channel as it was drawn, in nnU-Net's order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from msseg.preprocessing.resample import axis_weights, nearest_indices
from msseg.training.device_augmentation.draws import Draws
from msseg.training.device_augmentation.separable import along_axes, gaussian_matrix, to_device

_EPSILON = 1e-7


@dataclass(frozen=True)
class Context:
    """What a transform knows beside its value: the generator of noise, the order of resizing, a first axis apart."""

    generator: torch.Generator
    image_order: int
    dummy_2d: bool


def change_intensities(image: torch.Tensor, draws: Draws, rows: range, context: Context) -> None:
    """Change `image` (b, c, *patch) in place; it holds the `rows` of the samples that `draws` are of."""
    for name, (nothing, transform) in _TRANSFORMS.items():
        values = getattr(draws, name)
        for sample, channel in np.argwhere(values != nothing).tolist():
            if sample in rows:
                view = image[sample - rows.start, channel]
                view.copy_(transform(view, float(values[sample, channel]), context))
            elif transform is _noise:
                _standard_noise(image[0, channel], context)  # the next sample's comes after this one's


def invert(image: torch.Tensor, draws: Draws) -> None:
    """Make the drawn samples of `image` (b, c, *patch) their negatives, in place."""
    for sample in np.flatnonzero(draws.inverted).tolist():
        image[sample].neg_()


def mix_colours(image: torch.Tensor, draws: Draws, channels: Sequence[int]) -> None:
    """Mix red, green and blue, at `channels` of `image` (b, c, *patch), as drawn, in place; nothing without them."""
    if not channels:
        return
    nothing = np.eye(3, 4)
    for sample in np.flatnonzero((draws.colours != nothing).any(axis=(1, 2))).tolist():
        mix = to_device(draws.colours[sample], image.device)
        colours = image[sample, list(channels)]
        mixed = torch.addmm(mix[:, 3:], mix[:, :3], colours.reshape(3, -1))
        image[sample, list(channels)] = mixed.reshape(colours.shape)


def _noise(x: torch.Tensor, deviation: float, context: Context) -> torch.Tensor:
    return _standard_noise(x, context).mul_(deviation).add_(x)


def _standard_noise(x: torch.Tensor, context: Context) -> torch.Tensor:
    return torch.randn(x.shape, generator=context.generator, device=x.device)


def _blur(x: torch.Tensor, sigma: float, _context: Context) -> torch.Tensor:
    return along_axes(x, [gaussian_matrix(edge, sigma, "reflect") for edge in x.shape])


def _times(x: torch.Tensor, factor: float, _context: Context) -> torch.Tensor:
    return x * factor


def _plus(x: torch.Tensor, value: float, _context: Context) -> torch.Tensor:
    return x + value


def _contrast(x: torch.Tensor, factor: float, _context: Context) -> torch.Tensor:
    """Spread around the mean, within the range there was."""
    low, high = torch.aminmax(x)
    mean = x.mean()
    return ((x - mean) * factor + mean).clamp_(low, high)


def _low_resolution(x: torch.Tensor, zoom: float, context: Context) -> torch.Tensor:
    """Nearest voxels of a coarser grid, resized back within their range."""
    coarse = [max(1, round(edge * zoom)) for edge in x.shape]
    if context.dummy_2d:
        coarse[0] = x.shape[0]
    small = x
    for axis, (edge, length) in enumerate(zip(x.shape, coarse, strict=True)):
        small = small.index_select(axis, torch.from_numpy(nearest_indices(edge, length)).to(x.device))
    pairs = zip(coarse, x.shape, strict=True)
    matrices = [None if n == edge else axis_weights(n, edge, context.image_order) for n, edge in pairs]
    low, high = torch.aminmax(small)
    return along_axes(small, matrices).clamp_(low, high)


def _gamma(x: torch.Tensor, exponent: float, _context: Context) -> torch.Tensor:
    """The power of the values between their extremes, with the mean and deviation that there were."""
    mean = x.mean()
    deviation = _root_mean_square(x - mean)
    low, high = torch.aminmax(x)
    span = high - low + _EPSILON
    y = ((x - low) / span).pow_(exponent).mul_(span)
    y.sub_(y.mean())
    return y.mul_(deviation / (_root_mean_square(y) + 1e-8)).add_(mean)


def _root_mean_square(x: torch.Tensor) -> torch.Tensor:
    # torch.std goes through a CPU's tensors one number at a time.
    return torch.linalg.vector_norm(x) / math.sqrt(x.numel())


def _inverted_gamma(x: torch.Tensor, exponent: float, context: Context) -> torch.Tensor:
    return -_gamma(-x, exponent, context)


Transform = Callable[[torch.Tensor, float, Context], torch.Tensor]

# The field of the draws, in the order of application: the value that changes nothing, and what applies another.
_TRANSFORMS: dict[str, tuple[float, Transform]] = {
    "noise": (0.0, _noise),
    "blur": (0.0, _blur),
    "brightness": (1.0, _times),
    "contrast": (1.0, _contrast),
    "low_resolution": (1.0, _low_resolution),
    "inverted_gamma": (1.0, _inverted_gamma),
    "gamma": (1.0, _gamma),
    "added": (0.0, _plus),
    "last_contrast": (1.0, _contrast),
}
