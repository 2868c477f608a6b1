"""Synthetic microscopy of cell nuclei: images as three kinds of microscope give them, with a number for every nucleus.

Nuclei of several sizes lie apart, in clumps and against each other, as in the Data Science Bowl of 2018: bright on dark
(fluorescence), dark on bright (brightfield), purple on pink (histology). Everything is drawn from the random generator.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from msseg.files import atomic_path

# Height and width: mixed sizes, some no multiple of what a network wants.
_SIZES = ((128, 128), (144, 192), (180, 180), (256, 256))
_RADII_PX = (4.5, 13.0)
_MOST_NUCLEI = 60
# How near two nuclei may lie, as a share of the sum of their radii: below 1 they press flat against each other.
_NEAREST = 0.88
_WAVES = np.arange(2, 6)
# How much each stain takes from red, green and blue: haematoxylin and eosin after Ruifrok and Johnston (2001).
_HAEMATOXYLIN, _EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


@dataclass(frozen=True)
class SyntheticCells:
    """One image, uint8 (y, x) or (y, x, 3), and its nuclei, uint16 (y, x): 0 background, 1 … N one number each."""

    kind: str
    image: np.ndarray
    instances: np.ndarray


@dataclass(frozen=True)
class _Nuclei:
    """The shapes of n nuclei: centres (n, 2) in pixels as (y, x), half axes (n, 2), turn, waviness of the outline."""

    centre: np.ndarray
    half_axes: np.ndarray
    angle: np.ndarray
    wave: np.ndarray
    phase: np.ndarray


def synthetic_cells(
    seed: int, index: int, kind: str | None = None, size: tuple[int, int] | None = None
) -> SyntheticCells:
    """Image number `index` of the data set `seed`; no image depends on another.

    The kinds of `KINDS` take turns and the size (height, width) is drawn, unless given. At least one nucleus is in it.
    """
    rng = np.random.default_rng((seed, index))
    kind = kind or tuple(KINDS)[index % len(KINDS)]
    shape = size or _SIZES[rng.integers(len(_SIZES))]
    nuclei = _draw_nuclei(rng, shape)
    instances, depth = _painted(nuclei, shape)
    return SyntheticCells(kind, KINDS[kind](rng, instances, depth), instances)


def write_cells(folder: str | os.PathLike[str], training: int = 16, test: int = 4, seed: int = 0) -> Path:
    """The folder, holding `images/` and `instances/` for training, and the same two below `test/` for the test."""
    folder = Path(folder)
    for index in range(training + test):
        cells, part = synthetic_cells(seed, index), folder if index < training else folder / "test"
        _write_png(part / "images" / f"cells_{index:03d}.png", cells.image)
        _write_png(part / "instances" / f"cells_{index:03d}.png", cells.instances)
    return folder


def write_dsb2018(folder: str | os.PathLike[str], training: int = 16, test: int = 4, seed: int = 0) -> Path:
    """The folder in the layout of the Data Science Bowl 2018: a folder for each image, in it one mask for each nucleus.

    `stage1_train/ID/images/ID.png`, `stage1_train/ID/masks/*.png` (0 and 255) and `stage1_test/ID/images/ID.png`; all
    images are RGBA with an opaque alpha channel, the grey ones too, as they are there.
    """
    folder = Path(folder)
    for index in range(training + test):
        cells, name = synthetic_cells(seed, index), f"cells_{index:03d}"
        case = folder / ("stage1_train" if index < training else "stage1_test") / name
        _write_png(case / "images" / f"{name}.png", _with_alpha(cells.image))
        for number in range(1, int(cells.instances.max()) + 1 if index < training else 1):
            mask = (cells.instances == number).astype(np.uint8) * 255
            _write_png(case / "masks" / f"{name}_{number:03d}.png", mask)
    return folder


def _write_png(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=3)


def _with_alpha(image: np.ndarray) -> np.ndarray:
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return np.concatenate([colour, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)


def _draw_nuclei(rng: np.random.Generator, shape: Sequence[int]) -> _Nuclei:
    """Nuclei of one typical size in the image, half of them against another one."""
    typical = np.exp(rng.uniform(*np.log(_RADII_PX)))
    centres, radii = _draw_places(rng, shape, typical)
    count = len(radii)
    stretch = np.sqrt(np.clip(rng.lognormal(0.25, 0.2, count), 1, 2.2))
    return _Nuclei(
        centres,
        np.stack([radii / stretch, radii * stretch], axis=1),
        rng.uniform(0, np.pi, count),
        rng.normal(0, 0.16, (count, len(_WAVES))) / _WAVES,
        rng.uniform(0, 2 * np.pi, (count, len(_WAVES))),
    )


def _draw_places(rng: np.random.Generator, shape: Sequence[int], typical: float) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 2) and radii (n,); a candidate that would lie on another nucleus is dropped."""
    wanted = int(np.clip(rng.uniform(0.08, 0.3) * np.prod(shape) / (np.pi * typical**2), 3, _MOST_NUCLEI))
    radii = typical * np.clip(rng.lognormal(0, 0.22, 3 * wanted), 0.6, 1.7)
    anywhere = rng.uniform(0.02, 0.98, (3 * wanted, 2)) * shape
    beside, direction = rng.uniform(size=3 * wanted) < 0.55, rng.uniform(0, 2 * np.pi, 3 * wanted)
    kept, centres = [0], np.zeros((3 * wanted, 2))
    centres[0] = (0.3 + 0.4 * rng.uniform(size=2)) * shape
    for candidate in range(1, 3 * wanted):
        centre = anywhere[candidate]
        if beside[candidate]:
            neighbour = kept[candidate % len(kept)]
            apart = (_NEAREST + 0.02) * (radii[neighbour] + radii[candidate])
            centre = centres[neighbour] + apart * np.array([np.sin(direction[candidate]), np.cos(direction[candidate])])
        distances = np.hypot(*(centres[kept] - centre).T)
        inside = (centre > 0).all() and (centre < shape).all()
        if inside and (distances > _NEAREST * (radii[kept] + radii[candidate])).all():
            centres[candidate] = centre
            kept.append(candidate)
        if len(kept) == wanted:
            break
    return centres[kept], radii[kept]


def _painted(nuclei: _Nuclei, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the nuclei, uint16 (y, x), and the depth inside them: 1 in a centre, 0 on the outline and outside.

    A pixel that two nuclei claim goes to the one in which it lies deeper, so that they meet in a line. Numbers run from
    1 without a gap: a nucleus of which nothing is left gets none.
    """
    owner, depth = np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
    for number in range(len(nuclei.centre)):
        box = _box_around(nuclei, number, shape)
        deep = _depth_in(nuclei, number, box)
        deeper = deep > depth[box]
        owner[box][deeper] = number + 1
        depth[box][deeper] = deep[deeper]
    numbers = np.cumsum(np.bincount(owner.ravel(), minlength=len(nuclei.centre) + 1)[1:] > 0)
    return np.concatenate([[0], numbers]).astype(np.uint16)[owner], depth


def _box_around(nuclei: _Nuclei, number: int, shape: Sequence[int]) -> tuple[slice, slice]:
    reach = 1.5 * nuclei.half_axes[number].max() + 1
    low = np.floor(np.maximum(nuclei.centre[number] - reach, 0)).astype(int)
    high = np.ceil(np.minimum(nuclei.centre[number] + reach, shape)).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _depth_in(nuclei: _Nuclei, number: int, box: tuple[slice, slice]) -> np.ndarray:
    """One minus the distance from the centre as a share of the outline's in that direction, float32 (y, x)."""
    y, x = (line - centre for line, centre in zip(np.ogrid[box], nuclei.centre[number], strict=True))
    cos, sin = np.cos(nuclei.angle[number]), np.sin(nuclei.angle[number])
    short, long = nuclei.half_axes[number]
    along, across = (x * cos + y * sin) / long, (y * cos - x * sin) / short
    turn = np.arctan2(across, along)[..., None]
    outline = 1 + (nuclei.wave[number] * np.cos(_WAVES * turn + nuclei.phase[number])).sum(axis=-1)
    return (1 - np.hypot(along, across) / outline).astype(np.float32)


def _fluorescence(rng: np.random.Generator, instances: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Bright nuclei on black, uint8 (y, x): brightness from one to the other, chromatin, haze, the noise of photons."""
    light = _levels(rng, instances, 1.0, 0.35) * (0.55 + 0.45 * np.minimum(1, 2.5 * depth))
    light *= np.maximum(0.2, 1 + 0.16 * _noise(rng, depth.shape, 1.6))
    light = gaussian_filter(light, rng.uniform(0.7, 1.2)) + 0.08 * gaussian_filter(light, 9)
    light += 0.03 * np.maximum(0, 1 + 0.5 * _noise(rng, depth.shape, 30))
    photons = rng.uniform(25, 120)
    counted = rng.poisson(photons * light) / photons + rng.normal(0, 0.012, depth.shape)
    return _to_bytes(rng.uniform(40, 150) * counted + rng.uniform(3, 12))


def _brightfield(rng: np.random.Generator, instances: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Dark nuclei in grey cells on a bright and uneven field, uint8 (y, x)."""
    body = np.clip(2.2 * gaussian_filter((instances > 0).astype(np.float32), rng.uniform(4, 7)), 0, 1)
    dense = rng.uniform(0.15, 0.3) * body * (1 + 0.25 * _noise(rng, depth.shape, 1.5))
    rim = np.exp(-(((depth - 0.1) / 0.1) ** 2))
    nucleus = _levels(rng, instances, rng.uniform(0.4, 0.6), 0.12) * (0.85 + 0.35 * rim)
    dense += nucleus * np.maximum(0.3, 1 + 0.14 * _noise(rng, depth.shape, 1.4))
    dense = gaussian_filter(dense, rng.uniform(0.6, 1.0))
    field = rng.uniform(195, 228) * (1 + 0.03 * _noise(rng, depth.shape, 60))
    return _to_bytes(field * np.exp(-dense) + rng.normal(0, 2.2, depth.shape))


def _histology(rng: np.random.Generator, instances: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Purple nuclei in pink tissue with fibres, uint8 (y, x, 3): light through two stains (Beer and Lambert)."""
    fibres = _noise(rng, depth.shape, (1.2, 7.0) if rng.uniform() < 0.5 else (7.0, 1.2))
    eosin = rng.uniform(0.2, 0.4) * np.maximum(0.1, 1 + 0.12 * fibres + 0.25 * _noise(rng, depth.shape, 14))
    blue = _levels(rng, instances, rng.uniform(0.75, 1.25), 0.2)
    blue *= np.maximum(0.3, 1 + 0.2 * _noise(rng, depth.shape, 1.5)) * (1.15 - 0.3 * np.minimum(1, 2 * depth))
    blue = gaussian_filter(blue, rng.uniform(0.6, 1.0)) + rng.uniform(0.02, 0.08)
    stains = [stain * rng.uniform(0.9, 1.1, 3) for stain in (_HAEMATOXYLIN, _EOSIN)]
    absorbed = blue[..., None] * stains[0] + eosin[..., None] * stains[1]
    return _to_bytes(rng.uniform(232, 250) * np.exp(-absorbed) + rng.normal(0, 2.0, (*depth.shape, 3)))


KINDS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "fluorescence": _fluorescence,
    "brightfield": _brightfield,
    "histology": _histology,
}


def _levels(rng: np.random.Generator, instances: np.ndarray, typical: float, spread: float) -> np.ndarray:
    """A level for each nucleus, lognormal around `typical`, on all its pixels; 0 in the background; float32 (y, x)."""
    drawn = typical * rng.lognormal(0, spread, int(instances.max()))
    return np.concatenate([[0.0], drawn]).astype(np.float32)[instances]


def _noise(rng: np.random.Generator, shape: Sequence[int], sigma_px: float | tuple[float, float]) -> np.ndarray:
    """Gaussian noise, float32 (y, x), of mean 0 and standard deviation 1, correlated over `sigma_px`."""
    noise = gaussian_filter(rng.standard_normal(tuple(shape), dtype=np.float32), sigma_px, mode="wrap", truncate=3)
    return np.asarray((noise - noise.mean()) / noise.std())


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
