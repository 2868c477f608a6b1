from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from msseg.evaluation.surface import (
    assd_mm,
    bounding_box,
    hausdorff_mm,
    nearest_of_pairs,
    normalised_surface_dice,
    surface_distances,
    surface_metrics,
    surface_voxels,
)

PREDICTION = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    dtype=bool,
)
REFERENCE = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1],
        [0, 1, 1, 1, 1],
        [0, 0, 0, 0, 0],
    ],
    dtype=bool,
)


def _random_masks(seed: int, shape: tuple[int, ...] = (12, 20, 18)) -> tuple[np.ndarray, np.ndarray]:
    """Two similar blobby masks, some of it at the border."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 2.0)
    other = field + 0.4 * gaussian_filter(rng.normal(size=shape), 1.5)
    return other > 0.02, field > 0.03


def test_surface_is_what_touches_background_or_border():
    mask = np.ones((4, 5), dtype=bool)
    mask[0, 0] = False
    expected = [
        [0, 1, 1, 1, 1],
        [1, 0, 0, 0, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1],
    ]
    assert surface_voxels(mask).astype(int).tolist() == expected


def test_distances_of_a_small_grid_are_worked_out_by_hand():
    # Spacing 3 mm down, 2 mm across. All voxels are surface; the two right columns of the reference lie
    # 2 and 4 mm from the prediction, everything else coincides.
    metrics = surface_metrics(PREDICTION, REFERENCE, (3.0, 2.0), tolerance_mm=2.0)
    assert metrics["hausdorff_mm"] == pytest.approx(4.0)
    assert metrics["assd_mm"] == pytest.approx((2 * 2 + 2 * 4) / 12)
    assert metrics["nsd"] == pytest.approx(10 / 12)
    assert metrics["hd95_mm"] == pytest.approx(np.percentile([0, 0, 0, 0, 2, 2, 4, 4], 95))


def test_distances_scale_with_the_spacing():
    prediction, reference = _random_masks(0)
    small = surface_metrics(prediction, reference, (2.0, 1.0, 1.5), tolerance_mm=1.0)
    large = surface_metrics(prediction, reference, (20.0, 10.0, 15.0), tolerance_mm=10.0)
    for name in ("hausdorff_mm", "hd95_mm", "assd_mm"):
        assert large[name] == pytest.approx(10 * small[name])
    assert large["nsd"] == small["nsd"]


def test_sides_may_be_exchanged():
    prediction, reference = _random_masks(1)
    spacing_mm = (2.0, 1.0, 1.0)
    there, back = (surface_metrics(*pair, spacing_mm) for pair in ((prediction, reference), (reference, prediction)))
    assert there == pytest.approx(back)


def test_manhattan_distance_adds_the_steps():
    one, other = np.zeros((2, 6, 6), dtype=bool)
    one[0, 0] = other[3, 4] = True
    assert hausdorff_mm(surface_distances(one, other, (1.0, 1.0), "manhattan")) == pytest.approx(7.0)
    assert hausdorff_mm(surface_distances(one, other, (1.0, 1.0))) == pytest.approx(5.0)


def test_equal_masks_are_at_distance_zero():
    mask, _ = _random_masks(2)
    expected = {"hausdorff_mm": 0.0, "hd95_mm": 0.0, "assd_mm": 0.0, "nsd": 1.0}
    assert surface_metrics(mask, mask, (1, 1, 1)) == expected


def test_a_single_slice_is_measured_as_a_flat_image():
    flat = surface_metrics(PREDICTION, REFERENCE, (3.0, 2.0))
    assert surface_metrics(PREDICTION[None], REFERENCE[None], (9.0, 3.0, 2.0)) == flat


@pytest.mark.parametrize(("empty", "distance_mm"), [("diagonal", 15.0), ("infinity", float("inf")), ("excluded", None)])
def test_a_missed_object_gets_the_distance_asked_for(empty: str, distance_mm: float | None):
    mask = np.ones((4, 3), dtype=bool)  # 12 mm by 9 mm
    for pair in ((mask, ~mask), (~mask, mask)):
        metrics = surface_metrics(*pair, (3.0, 3.0), empty=empty)
        expected = dict.fromkeys(("hausdorff_mm", "hd95_mm", "assd_mm"), distance_mm)
        assert metrics == {**expected, "nsd": 0.0}


def test_nothing_on_both_sides_is_not_defined():
    nothing = np.zeros((3, 3, 3), dtype=bool)
    assert set(surface_metrics(nothing, nothing, (1, 1, 1)).values()) == {None}


def test_tree_pairs_and_transform_agree(monkeypatch: pytest.MonkeyPatch):
    prediction, reference = _random_masks(3)
    results = []
    for free in ("_QUERY_S", "_PAIR_S", "_VOXEL_S"):
        with monkeypatch.context() as costs:
            for name in ("_QUERY_S", "_CROWD_S", "_PAIR_S", "_VOXEL_S"):
                costs.setattr(f"msseg.evaluation.surface.{name}", 0.0 if name in (free, "_CROWD_S") else 1.0)
            results.append(surface_distances(prediction, reference, (3.0, 0.8, 1.1)))
    for other in results[1:]:
        np.testing.assert_allclose(results[0].from_prediction_mm, other.from_prediction_mm, atol=1e-9)
        np.testing.assert_allclose(results[0].from_reference_mm, other.from_reference_mm, atol=1e-9)


def test_a_false_blob_far_off_has_its_own_distances():
    prediction, reference = np.zeros((2, 40, 60, 60), dtype=bool)
    reference[20:30, 30:50, 30:50] = prediction[21:30, 31:50, 30:49] = True
    prediction[1:4, 1:5, 1:5] = True
    spacing_mm = (3.0, 0.8, 1.1)
    distances = surface_distances(prediction, reference, spacing_mm)
    for found, sides in (
        (distances.from_prediction_mm, (prediction, reference)),
        (distances.from_reference_mm, (reference, prediction)),
    ):
        source, target = map(surface_voxels, sides)
        expected = distance_transform_edt(~target, sampling=spacing_mm)[source]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert distances.from_prediction_mm.max() > 10 * np.median(
        distances.from_prediction_mm[distances.from_prediction_mm > 0]
    )


def test_pairs_are_compared_block_by_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("msseg.evaluation.surface._BLOCK_PAIRS", 7)
    targets = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    queries = np.array([[0.0, 1.0], [3.0, 0.0], [9.0, 0.0], [3.0, 4.0], [100.0, 0.0]])
    assert nearest_of_pairs(queries, targets).tolist() == [1.0, 3.0, 1.0, 0.0, 90.0]


def test_bounding_box_of_nothing_is_empty():
    assert bounding_box(np.zeros((2, 3), dtype=bool)) == (slice(0, 0), slice(0, 0))


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_distances_equal_those_of_monai(seed: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("monai", reason="MONAI is in the test extra")
        import torch
        from monai.metrics import (
            compute_average_surface_distance,
            compute_hausdorff_distance,
            compute_surface_dice,
        )

        prediction, reference = _random_masks(seed)
        spacing_mm = (3.0, 0.8, 1.1)
        tensors = [torch.from_numpy(mask[None, None]) for mask in (prediction, reference)]
        options = {"include_background": True, "spacing": spacing_mm}
        expected = [
            compute_hausdorff_distance(*tensors, **options),
            compute_hausdorff_distance(*tensors, percentile=95, **options),
            compute_average_surface_distance(*tensors, symmetric=True, **options),
            compute_surface_dice(*tensors, class_thresholds=[1.0], **options),
        ]
    distances = surface_distances(prediction, reference, spacing_mm)
    measured = [
        hausdorff_mm(distances),
        hausdorff_mm(distances, 95),
        assd_mm(distances),
        normalised_surface_dice(distances, 1.0),
    ]
    assert measured == pytest.approx([float(value) for value in expected], rel=1e-5)
