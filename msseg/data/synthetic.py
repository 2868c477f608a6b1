"""A data set made on the spot: CT-like volumes of an abdomen with two kidneys and their tumours.

Everything is an ellipsoid in the patient's frame (x to the left, y to the back, z to the head, in mm), painted in
order onto a grid, then blurred and made noisy as by a scanner. The body has the size of a small child's, so that
volumes of 24 to 40 slices of 80 × 96 voxels hold it. Nothing here is anatomy to measure on: it is data on which
the whole line runs in minutes, and on which a network has something to learn (liver, spleen, bowel and muscle have
the tumours' brightness, cysts hang on kidneys too).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.files import write_json

LABELS = {"background": 0, "kidney": 1, "tumour": 2}
_KIDNEY, _TUMOUR = LABELS["kidney"], LABELS["tumour"]
_AIR_HU = -1000.0

Vector = tuple[float, float, float]
_UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Tissue:
    """One ellipsoid of tissue: where it is (x, y, z in mm), its HU, the HU's unevenness, and what it is labelled.

    `turn` has the ellipsoid's axes as rows; `power` 2 is an ellipsoid, more goes towards a box; a radius of
    infinity makes a cylinder.
    """

    centre_mm: Vector
    radii_mm: Vector
    hu: float
    label: int = 0
    unevenness_hu: float = 4.0
    power: float = 2.0
    turn: tuple[Vector, Vector, Vector] = _UPRIGHT

    def covers(self, position_mm: np.ndarray) -> np.ndarray:
        """Mask of the positions (3, …) inside."""
        offset = position_mm - np.reshape(self.centre_mm, (3,) + (1,) * (position_mm.ndim - 1))
        if self.turn != _UPRIGHT:
            offset = np.tensordot(np.array(self.turn, dtype=offset.dtype), offset, 1)
        along = (np.abs(part) / radius for part, radius in zip(offset, self.radii_mm, strict=True))
        return sum(part**2 if self.power == 2 else part**self.power for part in along) < 1

    def scaled(self, factor: float, **changes: object) -> Tissue:
        """The same ellipsoid with its radii times `factor`, and other fields changed."""
        radii = tuple(factor * radius for radius in self.radii_mm)
        return replace(self, radii_mm=radii, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class SyntheticCase:
    """One case: the image in HU, int16 (1, z, y, x), its label map, uint8 (z, y, x), and their grid."""

    image: np.ndarray
    label: np.ndarray
    geometry: Geometry


def write_synthetic_dataset(folder: Path, training: int = 20, test: int = 5, seed: int = 0) -> Path:
    """The folder, holding the data set in nnU-Net v2's layout, and the references of its test cases in `labelsTs`.

    Same numbers, same voxels. Every file is renamed into place, `dataset.json` last, so that a folder with it is whole.
    """
    folder = Path(folder)
    for index in range(training + test):
        case, part = synthetic_case(seed, index), "Tr" if index < training else "Ts"
        name = f"abdomen_{index:03d}"
        write_image(folder / f"images{part}" / f"{name}_0000.nii.gz", case.image, case.geometry)
        write_label(folder / f"labels{part}" / f"{name}.nii.gz", case.label, case.geometry)
    description = {
        "name": "SyntheticKidneys",
        "description": "Made by msseg: CT-like abdomens with kidneys and tumours, drawn from random numbers.",
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    write_json(folder / "dataset.json", description)
    return folder


def synthetic_case(seed: int, index: int) -> SyntheticCase:
    """Case number `index` of the data set `seed`; no case depends on another."""
    rng = np.random.default_rng((seed, index))
    geometry = _draw_geometry(rng)
    position_mm = _bent(_positions(geometry), rng)
    grain = _smooth_noise(rng, geometry, 3.5)
    image, label = _painted(_draw_abdomen(rng), position_mm, grain)
    return SyntheticCase(_scanned(image, rng, geometry)[None], label, geometry)


def _painted(tissues: Iterable[Tissue], position_mm: np.ndarray, grain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sharp image in HU (z, y, x) and its labels; a tissue is asked only about voxels near it."""
    image, label = np.full(grain.shape, _AIR_HU), np.zeros(grain.shape, dtype=np.uint8)
    lowest, highest = _extents(position_mm)
    for tissue in tissues:
        box = _box_around(tissue, lowest, highest)
        everywhere = (slice(None), *box)
        covered = tissue.covers(position_mm[everywhere])
        image[box][covered] = tissue.hu + tissue.unevenness_hu * grain[box][covered]
        label[box][covered] = tissue.label
    return image, label


def _extents(position_mm: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The least and greatest z of each slice, y of each row and x of each column, as arrays in that order."""
    others = ((1, 2), (0, 2), (0, 1))
    pairs = list(zip(position_mm[::-1], others, strict=True))
    return [part.min(axis=axes) for part, axes in pairs], [part.max(axis=axes) for part, axes in pairs]


def _box_around(tissue: Tissue, lowest: list[np.ndarray], highest: list[np.ndarray]) -> tuple[slice, ...]:
    """The voxels (z, y, x) that a tissue can reach, by its radii, or by the largest where it is turned."""
    radii = tissue.radii_mm if tissue.turn == _UPRIGHT else (max(tissue.radii_mm),) * 3
    box = []
    for low, high, centre, radius in zip(lowest, highest, tissue.centre_mm[::-1], radii[::-1], strict=True):
        near = np.flatnonzero((high > centre - radius) & (low < centre + radius))
        box.append(slice(int(near[0]), int(near[-1]) + 1) if near.size else slice(0, 0))
    return tuple(box)


def _draw_geometry(rng: np.random.Generator) -> Geometry:
    """A grid of 3 to 5 mm slices and 1.8 to 2 mm pixels around the body, the patient lying a little askew on it."""
    slice_mm, pixel_mm = float(rng.choice([3.0, 3.5, 4.0, 4.5, 5.0])), float(rng.choice([1.8, 1.9, 2.0]))
    shape = (int(rng.uniform(120, 126) / slice_mm), 80, 96)
    angle = np.deg2rad(rng.uniform(-5, 5))
    across = (float(np.cos(angle)), float(np.sin(angle)), 0.0)
    direction = ((0.0, 0.0, 1.0), (-across[1], across[0], 0.0), across)
    spacing_mm = (slice_mm, pixel_mm, pixel_mm)
    middle_mm = Geometry(shape, spacing_mm, direction=direction).positions_mm(np.array([shape]) / 2)[0]
    origin_mm = tuple(float(value) for value in rng.uniform(-6, 6, size=3) - middle_mm)
    return Geometry(shape, spacing_mm, origin_mm, direction)  # type: ignore[arg-type]


def _positions(geometry: Geometry) -> np.ndarray:
    """The patient's coordinates (x, y, z) of every voxel, float32 (3, z, y, x)."""
    voxels = np.indices(geometry.shape).reshape(3, -1).T
    return geometry.positions_mm(voxels).T.reshape(3, *geometry.shape).astype(np.float32)


def _bent(position_mm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The positions moved by up to some mm along slow waves, so that no organ is an exact ellipsoid."""
    bent = position_mm.copy()
    for wavelength_mm, amplitude_mm in ((90, 2.5), (55, 1.5), (30, 0.9)):
        for axis in range(3):
            wave = rng.normal(size=3)
            wave *= 2 * np.pi / (wavelength_mm * np.linalg.norm(wave))
            phase = np.tensordot(wave.astype(np.float32), position_mm, 1) + np.float32(rng.uniform(0, 2 * np.pi))
            bent[axis] += amplitude_mm * np.sin(phase)
    return bent


def _smooth_noise(rng: np.random.Generator, geometry: Geometry, sigma_mm: float) -> np.ndarray:
    """Gaussian noise (z, y, x) of mean 0 and standard deviation 1, correlated over `sigma_mm`."""
    noise = gaussian_filter(rng.normal(size=geometry.shape), [sigma_mm / step for step in geometry.spacing_mm])
    return (noise - noise.mean()) / noise.std()


def _scanned(image: np.ndarray, rng: np.random.Generator, geometry: Geometry) -> np.ndarray:
    """The image as a scanner shows it, int16 HU: edges blurred, brightness uneven, noise of 9 to 16 HU."""
    sharp_mm = rng.uniform(1.2, 1.8)
    blurred = gaussian_filter(image, [1.2 / geometry.spacing_mm[0], *(sharp_mm / s for s in geometry.spacing_mm[1:])])
    shading = 5 * _smooth_noise(rng, geometry, 40)
    noise = rng.uniform(9, 16) * _smooth_noise(rng, geometry, 0.8)
    return np.clip(np.rint(blurred + shading + noise), -1024, 3071).astype(np.int16)


def _draw_abdomen(rng: np.random.Generator) -> Iterator[Tissue]:
    """The tissues in the order of painting: the later lies in the way of the earlier."""
    yield from _draw_wall(rng)
    yield from _draw_bowel(rng)
    yield from _draw_upper_organs(rng)
    for side in (-1, 1):
        yield Tissue((side * 19, 25, 0), (9, 9, np.inf), rng.uniform(50, 62), unevenness_hu=8)  # psoas
    sides = [-1, 1] if rng.uniform() > 0.12 else [int(rng.choice([-1, 1]))]
    ill = int(rng.choice(sides))
    for side in sides:
        tumours = 0 if side != ill else 1 + (rng.uniform() < 0.2)
        yield from _draw_kidney(rng, side, tumours)
    yield from _draw_spine_and_vessels(rng)


def _draw_wall(rng: np.random.Generator) -> Iterator[Tissue]:
    width, depth, fat = rng.uniform(78, 84), rng.uniform(56, 61), rng.uniform(4, 9)
    tall = np.inf
    yield Tissue((0, depth + 10, 0), (70, 2.5, tall), -250, power=6)  # couch
    yield Tissue((0, 0, 0), (width, depth, tall), -105, power=2.4)  # skin fat
    yield Tissue((0, 0, 0), (width - fat, depth - fat, tall), 55, power=2.4, unevenness_hu=8)  # muscle
    slant = np.deg2rad(28)
    cos, sin = float(np.cos(slant)), float(np.sin(slant))
    turn = ((1.0, 0.0, 0.0), (0.0, cos, sin), (0.0, -sin, cos))
    for level in np.arange(12, 90, 17):
        ring = (width - fat - 1.5, (depth - fat - 1.5) / cos, 2.6)
        yield Tissue((0, 0, float(level)), ring, 330, power=4, turn=turn)  # ribs, seen where they cross the wall
    yield Tissue((0, -2, 0), (width - fat - 6, depth - fat - 7, tall), -88, power=2.2, unevenness_hu=12)  # cavity


def _draw_bowel(rng: np.random.Generator) -> Iterator[Tissue]:
    for _ in range(45):
        centre = (rng.uniform(-52, 52), rng.uniform(-36, 2), rng.uniform(-75, 45))
        radii = tuple(rng.uniform(7, 16, size=3))
        loop = Tissue(centre, radii, rng.uniform(20, 75), unevenness_hu=14)
        yield loop
        filling = rng.uniform()
        if filling < 0.25:
            yield loop.scaled(0.55, hu=-850.0)  # gas
        elif filling < 0.4:
            yield loop.scaled(0.7, hu=rng.uniform(140, 240))  # oral contrast


def _draw_upper_organs(rng: np.random.Generator) -> Iterator[Tissue]:
    liver_hu, low = rng.uniform(85, 120), rng.uniform(-8, 8)
    yield Tissue((-36, -10, 42 + low), (33, 38, 44), liver_hu, unevenness_hu=7)
    yield Tissue((0, -22, 52 + low), (38, 20, 26), liver_hu, unevenness_hu=7)  # left lobe
    yield Tissue((-24, -26, 16 + low), (8, 9, 13), rng.uniform(5, 18))  # gall bladder
    stomach = Tissue((32, -20, 42 + low), (22, 18, 24), rng.uniform(25, 60), unevenness_hu=14)
    yield stomach
    yield stomach.scaled(0.5, centre_mm=(32, -28, 44 + low), hu=-900.0)
    yield Tissue((52, 14, 44 + low), (13, 22, 26), rng.uniform(95, 130), unevenness_hu=7)  # spleen
    yield Tissue((4, -4, 22 + low), (30, 6, 8), rng.uniform(75, 100), unevenness_hu=14)  # pancreas


def _draw_kidney(rng: np.random.Generator, side: int, tumours: int) -> Iterator[Tissue]:
    """A kidney with cortex, medulla and sinus fat; `side` is -1 (right) or 1 (left)."""
    centre = np.array([side * rng.uniform(39, 43), rng.uniform(17, 23), (0 if side > 0 else -7) + rng.uniform(-7, 7)])
    turn = _leaning(side * rng.uniform(6, 18), side * rng.uniform(-35, -10))
    radii = rng.uniform(0.9, 1.1) * np.array([rng.uniform(12, 14), rng.uniform(15, 17), rng.uniform(28, 33)])
    cortex_hu = rng.uniform(145, 205)
    kidney = Tissue(tuple(centre), tuple(radii), cortex_hu, _KIDNEY, 8, turn=turn)
    growths = [_draw_growth(rng, kidney, side) for _ in range(tumours)]
    yield kidney
    for pyramid in np.linspace(-0.6, 0.6, 5):
        inner = tuple(centre + pyramid * radii[2] * np.array(turn[2]))
        medulla_hu = cortex_hu - rng.uniform(30, 55)
        yield replace(kidney, centre_mm=inner, radii_mm=(7.5, 10, 5), hu=medulla_hu)
    hilum = tuple(centre - side * 0.55 * radii[0] * np.array(turn[0]))
    yield replace(kidney, centre_mm=hilum, radii_mm=(7.5, 6.5, 12), hu=-75.0, label=0)  # sinus fat
    yield replace(kidney, centre_mm=hilum, radii_mm=(4, 3, 8), hu=rng.uniform(5, 40), label=0)  # pelvis
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15])):
        yield _draw_cyst(rng, kidney, side)
    for tumour in growths:
        yield from tumour


def _leaning(sideways_deg: float, twist_deg: float) -> tuple[Vector, Vector, Vector]:
    """Rows of axes: leaning in the frontal plane, then twisted about the body's length."""
    lean, twist = np.deg2rad([sideways_deg, twist_deg])
    about_y = np.array([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
    about_z = np.array([[np.cos(twist), np.sin(twist), 0], [-np.sin(twist), np.cos(twist), 0], [0, 0, 1]])
    first, second, third = ((float(x), float(y), float(z)) for x, y, z in about_y @ about_z)
    return first, second, third


def _on_surface(rng: np.random.Generator, kidney: Tissue, side: int, depth: float) -> Vector:
    """A point at `depth` (1 = surface) of the kidney, never on the side of the spine."""
    outwards = rng.normal(size=3) * (1, 1, 0.8)
    outwards[0] = side * abs(outwards[0])
    outwards /= np.linalg.norm(outwards)
    x, y, z = np.array(kidney.centre_mm) + (depth * outwards * kidney.radii_mm) @ np.array(kidney.turn)
    return float(x), float(y), float(z)


def _draw_growth(rng: np.random.Generator, kidney: Tissue, side: int) -> list[Tissue]:
    """A tumour of two or three lobes, partly inside the kidney; a large one is necrotic in the middle."""
    radius, hu = rng.uniform(9, 17), rng.uniform(60, 108)
    x, y, z = _inside_cavity(_on_surface(rng, kidney, side, rng.uniform(0.7, 1.0)), radius)
    lobes = []
    for spread in (0.0, *rng.uniform(0.3, 0.5, size=rng.integers(1, 3))):
        shift = spread * radius * rng.normal(size=3)
        radii = tuple(radius * rng.uniform(0.75, 1.1, size=3))
        place = (x + shift[0], y + shift[1], z + shift[2])
        lobes.append(Tissue(place, radii, hu, _TUMOUR, 17))
    if radius > 11:
        lobes.append(lobes[0].scaled(rng.uniform(0.35, 0.55), hu=rng.uniform(25, 45)))
    return lobes


def _inside_cavity(place_mm: Vector, radius_mm: float) -> Vector:
    """The place, moved towards the body's axis where a ball there would grow through the wall."""
    x, y, z = place_mm
    distance, limit = np.hypot(x / 65, y / 42), 1 - 0.7 * radius_mm / 55
    shrink = min(1.0, float(limit / distance))
    return shrink * x, shrink * y, z


def _draw_cyst(rng: np.random.Generator, kidney: Tissue, side: int) -> Tissue:
    """A cyst, water in a thin wall: it belongs to the kidney, as in KiTS19."""
    radius = rng.uniform(4, 9)
    place = _on_surface(rng, kidney, side, rng.uniform(0.75, 0.95))
    return Tissue(place, (radius, radius, radius), rng.uniform(0, 18), _KIDNEY, 2)


def _draw_spine_and_vessels(rng: np.random.Generator) -> Iterator[Tissue]:
    tall, shift = np.inf, rng.uniform(0, 24)
    yield Tissue((6, 10, 0), (5.5, 5.5, tall), rng.uniform(160, 240))  # aorta
    yield Tissue((-10, 9, 0), (6.5, 5.5, tall), rng.uniform(110, 170))  # vena cava
    for side in (-1, 1):
        yield Tissue((side * 15, 43, 0), (13, 9, tall), 56, unevenness_hu=10)  # muscles of the back
    yield Tissue((0, 27, 0), (13, 10.5, tall), 80)  # discs
    for level in np.arange(-96, 97, 24) + shift:
        vertebra = Tissue((0, 27, float(level)), (13.5, 11, 9.5), 420, power=6)
        yield vertebra
        yield vertebra.scaled(0.82, hu=rng.uniform(170, 210), unevenness_hu=25)
        yield Tissue((0, 47, float(level)), (2.5, 9, 8), 350)  # spinous process
        yield Tissue((0, 42, float(level)), (14, 2.5, 5), 340)  # transverse processes
    yield Tissue((0, 40, 0), (6, 5, tall), 30)  # spinal canal
