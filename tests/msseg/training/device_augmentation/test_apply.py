"""The device's way against batchgenerators': equal images at equal parameters, equal distributions over many draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from batchgenerators.augmentations import color_augmentations, resample_augmentations
from batchgenerators.augmentations.utils import (
    create_zero_centered_coordinate_mesh,
    interpolate_img,
    rotate_coords_2d,
    rotate_coords_3d,
)
from scipy.ndimage import map_coordinates
from scipy.stats import ks_2samp

from msseg.training.augmentation import AUGMENTATIONS, Augmentation, read_size
from msseg.training.batches import legacy_randomness
from msseg.training.device_augmentation.apply import augment
from msseg.training.device_augmentation.draws import Draws, draw, rotation
from msseg.training.transforms import smooth_field
from msseg.training.worker_augmentation import build_transforms
from planning.label_pairs import Sides

PATCH = (10, 12, 8)
NOTHING = Augmentation(name="nothing", mirror=False)


def blob(shape: tuple[int, ...], samples: int = 1, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A smooth bright blob off the centre on a ramp, and its label: 1, with a core of 2."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, edge) for edge in shape), indexing="ij"))
    centre = np.array([0.1, -0.2, 0.15][: len(shape)]).reshape(-1, *(1,) * len(shape))
    distance = np.sqrt(((grid - centre) ** 2).sum(axis=0))
    image = np.exp(-4 * distance**2) + 0.2 * grid[0]
    label = (distance < 0.5).astype(np.int16) + (distance < 0.25)
    images = np.stack([image + 0.1 * channel for channel in range(channels)])
    return np.stack([images] * samples).astype(np.float32), np.stack([label] * samples)


def fixed(row: Augmentation, channels: int = 1, patch: tuple[int, ...] = PATCH, **values: object) -> Draws:
    """Draws of one sample that do nothing but `values`."""
    draws = draw(replace(NOTHING), np.random.default_rng(0), 1, channels, patch, False, ())
    return replace(draws, **values)  # type: ignore[arg-type]


def by_device(draws: Draws, row: Augmentation, image: np.ndarray, label: np.ndarray, patch, dummy_2d=False):
    moved = augment(torch.from_numpy(image.copy()), torch.from_numpy(label.copy()), draws, row, patch, dummy_2d)
    return moved[0].numpy(), moved[1].numpy()


@pytest.mark.parametrize(("dimensions", "image_order", "label_order"), [(3, 3, 1), (3, 1, 0), (2, 3, 0), (2, 1, 1)])
def test_a_turned_and_scaled_blob_is_batchgenerators(dimensions, image_order, label_order):
    shape, patch = (18, 20, 16)[:dimensions], PATCH[:dimensions]
    image, label = blob(shape)
    angles = [0.4, -0.3, 0.2] if dimensions == 3 else [0.4]
    row = replace(NOTHING, image_order=image_order, label_order=label_order)
    draws = fixed(row, patch=patch, matrices=(1.3 * rotation(angles))[None])
    ours = by_device(draws, row, image, label, patch)
    mesh = create_zero_centered_coordinate_mesh(patch)
    places = (rotate_coords_3d if dimensions == 3 else rotate_coords_2d)(mesh, *angles) * 1.3
    places += (np.array(shape).reshape(-1, *(1,) * dimensions) - 1) / 2
    theirs = interpolate_img(image[0, 0], places, image_order, "constant", cval=0)
    np.testing.assert_allclose(ours[0][0, 0], theirs, atol=1e-5)
    expected = interpolate_img(label[0].astype(np.float32), places, label_order, "constant", cval=-1, is_seg=True)
    np.testing.assert_array_equal(ours[1][0], expected)


INTENSITIES: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "brightness": (1.2, lambda x: x * 1.2),
    "added": (0.3, lambda x: x + 0.3),
    "contrast": (1.4, lambda x: color_augmentations.augment_contrast(x, lambda: 1.4)),
    "last_contrast": (0.8, lambda x: color_augmentations.augment_contrast(x, lambda: 0.8, per_channel=False)),
    "gamma": (1.3, lambda x: color_augmentations.augment_gamma(x, (1.3, 1.3), False, 1e-7, True, True)),
    "inverted_gamma": (1.4, lambda x: color_augmentations.augment_gamma(x, (1.4, 1.4), True, 1e-7, True, True)),
    "low_resolution": (
        0.55,
        lambda x: resample_augmentations.augment_linear_downsampling_scipy(x, (0.55, 0.55), True, 1, None, 0, 3),
    ),
}


@pytest.mark.parametrize("name", sorted(INTENSITIES))
def test_an_intensity_changed_by_an_equal_value_is_batchgenerators(name):
    value, theirs = INTENSITIES[name]
    image, label = blob(PATCH)
    ours, _ = by_device(fixed(NOTHING, **{name: np.array([[value]])}), NOTHING, image, label, PATCH)
    np.testing.assert_allclose(ours[0], theirs(image[0].copy()), atol=2e-4)


def test_a_grid_moves_the_image_as_the_workers_grid_does():
    row = replace(NOTHING, image_order=1, label_order=0)
    image, label = blob(PATCH)
    points = np.random.default_rng(5).normal(size=(1, 3, 3, 3, 3))
    ours, _ = by_device(fixed(row, grid=points), row, image, label, PATCH)
    places = np.stack(np.meshgrid(*(np.arange(edge, dtype=float) for edge in PATCH), indexing="ij"))
    for axis in range(3):
        places[axis] += smooth_field(points[0, axis], PATCH)
    np.testing.assert_allclose(ours[0, 0], map_coordinates(image[0, 0], places, order=1, cval=0.0), atol=1e-4)


def test_mirrors_turns_and_windows_move_image_and_label_alike():
    image = np.arange(27, dtype=np.float32).reshape(1, 1, 3, 3, 3)
    label = image[:, 0].astype(np.int16)
    draws = fixed(NOTHING, patch=(3, 3, 3), mirrored=np.array([[True, False, True]]), quarter_turns=np.array([1]))
    ours = by_device(draws, NOTHING, image, label, (3, 3, 3))
    expected = np.rot90(image[0, 0], 1, axes=(-2, -1))[::-1, :, ::-1]
    np.testing.assert_array_equal(ours[0][0, 0], expected)
    np.testing.assert_array_equal(ours[1][0], expected)
    row = replace(NOTHING, shift=0.5)
    draws = fixed(row, patch=(2, 2, 2), window=np.array([[0, 1, 2]]))
    image = np.arange(64, dtype=np.float32).reshape(1, 1, 4, 4, 4)
    ours = by_device(draws, row, image, image[:, 0].astype(np.int16), (2, 2, 2))
    np.testing.assert_array_equal(ours[0][0, 0], image[0, 0, 0:2, 1:3, 2:4])


# One transform each, certain or not; the patch is cut from a larger region where the row reads one.
ALIKE: dict[str, dict[str, object]] = {
    "rotation": {"rotation": 0.6},
    "scaling": {"scaling": 0.7},
    "rotation and scaling, linear": {"rotation": 0.7, "scaling": 0.7, "image_order": 1, "label_order": 0},
    "elastic": {"elastic": 0.8, "elastic_alpha": (0.0, 60.0), "elastic_sigma": (2.0, 3.0)},
    "noise": {"noise": 0.6},
    "blur": {"blur": 0.8},
    "brightness": {"brightness": 0.6},
    "contrast": {"contrast": 0.6},
    "low resolution": {"low_resolution": 0.8},
    "gamma": {"gamma": 0.6},
    "inverted gamma": {"inverted_gamma": 0.6},
    "one intensity": {"one_intensity": 1.0},
    "quarter turn": {"quarter_turn": 0.8},
    "shift": {"shift": 0.2},
    "grid elastic": {"grid_elastic": 0.8, "grid_share": 0.1, "image_order": 1, "label_order": 0},
    "mirror": {"mirror": True},
    "inversion": {"inversion": 0.4},
}
SAMPLES, BATCHES = 16, 14


def statistics(image: np.ndarray, label: np.ndarray, plain: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Rows of mean, deviation, largest value, foreground share, the blob's place on each axis, and whether changed."""
    weights = np.clip(image[:, 0], 0, None) + 1e-6
    axes = range(1, weights.ndim)
    grid = np.meshgrid(*(np.arange(edge) for edge in weights.shape[1:]), indexing="ij")
    places = [(weights * line).sum(axis=tuple(axes)) / weights.sum(axis=tuple(axes)) for line in grid]
    changed = [
        not (np.allclose(a, plain[0], atol=1e-6) and np.array_equal(b, plain[1]))
        for a, b in zip(image, label, strict=True)
    ]
    return np.stack(
        [
            image.mean(axis=tuple(range(1, image.ndim))),
            image.std(axis=tuple(range(1, image.ndim))),
            image.max(axis=tuple(range(1, image.ndim))),
            (label > 0).mean(axis=tuple(axes)),
            *places,
            np.array(changed, float),
        ]
    )


def middle(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    lead = array.ndim - len(size)
    starts = [(whole - part) // 2 for whole, part in zip(array.shape[lead:], size, strict=True)]
    return array[(..., *(slice(start, start + part) for start, part in zip(starts, size, strict=True)))]


def both_ways(row: Augmentation, patch: tuple[int, ...], dummy_2d: bool) -> tuple[np.ndarray, np.ndarray]:
    """The statistics of many samples, made by batchgenerators and by torch."""
    size = read_size(row, patch, dummy_2d)
    image, label = blob(size, SAMPLES)
    plain = middle(image, patch)[0], middle(label, patch)[0]
    axes = tuple(range(len(patch)))
    transform = build_transforms(row, patch, dummy_2d, axes)
    generator = np.random.default_rng(11)
    theirs, ours = [], []
    for number in range(BATCHES):
        with legacy_randomness(1000 + number):
            moved = transform(data=image.copy(), seg=label[:, None].astype(np.float32))
        theirs.append(statistics(moved["data"], np.rint(moved["seg"][:, 0]), plain))
        draws = draw(row, generator, SAMPLES, 1, patch, dummy_2d, axes)
        read = middle(image, draws.read_size), middle(label, draws.read_size)
        ours.append(statistics(*by_device(draws, row, *read, patch, dummy_2d), plain))
    return np.concatenate(theirs, axis=1), np.concatenate(ours, axis=1)


def assert_alike(row: Augmentation, patch: tuple[int, ...], dummy_2d: bool = False) -> None:
    theirs, ours = both_ways(row, patch, dummy_2d)
    count = theirs.shape[1]
    assert abs(theirs[-1].mean() - ours[-1].mean()) < 4 * np.sqrt(0.5 / count), "share of changed samples"
    for number, (one, other) in enumerate(zip(theirs[:-1], ours[:-1], strict=True)):
        # Rounding would tell apart what is the same in both.
        probability = ks_2samp(one.round(4), other.round(4)).pvalue
        assert probability > 1e-3, f"statistic {number}: {one.mean():.4f} and {other.mean():.4f}, p {probability:.1e}"


@pytest.mark.parametrize("name", sorted(ALIKE))
def test_each_transform_is_distributed_as_batchgenerators(name):
    assert_alike(replace(NOTHING, **ALIKE[name]), PATCH)


@pytest.mark.parametrize(
    ("name", "patch", "dummy_2d"), [("nnunet", (3, 16, 12), True), ("unet_school", (14, 16), False)]
)
def test_whole_rows_are_distributed_as_batchgenerators_in_dummy_2d_and_2d(name, patch, dummy_2d):
    assert_alike(AUGMENTATIONS[name], patch, dummy_2d)


def colour_means(row: Augmentation) -> tuple[np.ndarray, np.ndarray]:
    """The means (3, n) of three channels at 1, 2 and -1, changed by batchgenerators and by torch."""
    image = np.broadcast_to(np.array([1.0, 2.0, -1.0], np.float32).reshape(3, 1, 1), (SAMPLES, 3, 4, 4)).copy()
    label = np.zeros((SAMPLES, 4, 4), np.int16)
    transform = build_transforms(row, (4, 4), False, (), (0, 1, 2))
    generator = np.random.default_rng(3)
    theirs, ours = [], []
    for number in range(BATCHES):
        with legacy_randomness(2000 + number):
            theirs.append(transform(data=image.copy(), seg=label[:, None].astype(np.float32))["data"].mean(axis=(2, 3)))
        draws = draw(row, generator, SAMPLES, 3, (4, 4), False, ())
        moved = augment(torch.from_numpy(image.copy()), torch.from_numpy(label), draws, row, (4, 4), False, (0, 1, 2))
        ours.append(moved[0].mean(dim=(2, 3)).numpy())
    return np.concatenate(theirs).T, np.concatenate(ours).T


@pytest.mark.parametrize(
    "values", [{"hue": 0.6}, {"saturation": 0.6}, {"stain": 0.6}, {"hue": 0.5, "saturation": 0.5, "stain": 0.5}]
)
def test_colours_are_distributed_as_by_workers(values):
    theirs, ours = colour_means(replace(NOTHING, **values))
    for one, other in zip(theirs, ours, strict=True):
        assert ks_2samp(one.round(4), other.round(4)).pvalue > 1e-3


def test_colours_are_mixed_in_their_channels_alone():
    image, label = blob((6, 5), channels=4)
    mix = np.array([[[0.5, 0.25, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, -1.0]]])
    draws = fixed(NOTHING, channels=4, patch=(6, 5), colours=mix)
    moved = augment(torch.from_numpy(image.copy()), torch.from_numpy(label), draws, NOTHING, (6, 5), False, (2, 0, 3))
    red, green, blue = image[0, 2], image[0, 0], image[0, 3]
    expected = [green, image[0, 1], 0.5 * red + 0.25 * green + 1, 2 * blue - 1]
    np.testing.assert_allclose(moved[0][0].numpy(), np.stack(expected), atol=1e-6)
    untouched, _ = by_device(draws, NOTHING, image, label, (6, 5))
    np.testing.assert_array_equal(untouched, image)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize(("patch", "dummy_2d"), [((8, 10, 9), False), ((3, 12, 12), True), ((12, 10), False)])
def test_every_row_gives_finite_patches_of_known_labels_and_the_same_again(name, patch, dummy_2d):
    row = AUGMENTATIONS[name]
    for seed in range(3):
        draws = draw(row, np.random.default_rng(seed), 2, 2, patch, dummy_2d, (0, 1))
        image, label = blob(draws.read_size, 2, channels=2)
        first = by_device(draws, row, image, label, patch, dummy_2d)
        again = by_device(draws, row, image, label, patch, dummy_2d)
        assert first[0].shape == (2, 2, *patch)
        assert first[1].shape == (2, *patch)
        assert np.isfinite(first[0]).all()
        assert set(np.unique(first[1])) <= {-1, 0, 1, 2}
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])


def two_sided(shape: tuple[int, ...], samples: int) -> tuple[np.ndarray, np.ndarray]:
    """A heart (3) on the left (1) of the last axis, the right (2) beside it, nothing (-1) beyond the first row."""
    label = np.ones(shape, np.int16)
    label[..., shape[-1] // 2 :] = 2
    label[..., 1] = 3
    label[..., 0, :] = -1
    labels = np.stack([label] * samples)
    return np.repeat(labels[:, None].astype(np.float32), 2, axis=1), labels


def augmented(way: str, shape: tuple[int, ...], axes: tuple[int, ...], sides: Sides | None) -> tuple[np.ndarray, ...]:
    """Images and labels of 32 samples that are mirrored and nothing else."""
    image, label = two_sided(shape, samples=32)
    row = replace(NOTHING, mirror=True)
    if way == "device":
        draws = draw(row, np.random.default_rng(3), 32, 2, shape, False, axes)
        result = augment(torch.from_numpy(image), torch.from_numpy(label), draws, row, shape, sides=sides)
        return tuple(part.numpy() for part in result)
    with legacy_randomness(3):
        moved = build_transforms(row, shape, False, axes, (), sides)(data=image, seg=label[:, None].astype(np.float32))
    return moved["data"], moved["seg"][:, 0]


@pytest.mark.parametrize("way", ["device", "workers"])
@pytest.mark.parametrize("shape", [(4, 6, 8), (6, 8)])
def test_left_stays_on_the_left_of_a_sample_that_is_mirrored_from_side_to_side(way, shape):
    lateral = len(shape) - 1
    image, label = augmented(way, shape, tuple(range(len(shape))), Sides(lateral, (0, 2, 1, 3)))
    mirrored = image[..., 1:-1, 1].reshape(32, -1)[:, 0] != 3  # the image still holds where the heart went
    assert 4 < mirrored.sum() < 28
    half = shape[-1] // 2
    for sample, is_mirrored in zip(label, mirrored, strict=True):
        assert set(np.unique(sample[..., :half])) <= ({-1, 1} if is_mirrored else {-1, 1, 3})
        assert set(np.unique(sample[..., half:])) <= ({-1, 2, 3} if is_mirrored else {-1, 2})
    np.testing.assert_array_equal((label == -1), image[:, 0] == -1)
    np.testing.assert_array_equal((label == 3), image[:, 0] == 3)


@pytest.mark.parametrize("way", ["device", "workers"])
def test_mirrors_along_other_axes_swap_nothing(way):
    image, label = augmented(way, (4, 6, 8), (0, 1), Sides(2, (0, 2, 1, 3)))
    np.testing.assert_array_equal(label, image[:, 0])
    assert (label[:, :, -1] == -1).any()


@pytest.mark.parametrize("way", ["device", "workers"])
def test_sides_that_swap_nothing_leave_every_bit(way):
    plain = augmented(way, (4, 6, 8), (0, 1, 2), None)
    for one, other in zip(plain, augmented(way, (4, 6, 8), (0, 1, 2), Sides(2, (0, 1, 2, 3))), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
