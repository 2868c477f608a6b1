from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from planning.errors import PlanError
from planning.fingerprint import (
    CaseFingerprint,
    class_volumes_mm3,
    fingerprint_from_json,
    fingerprint_to_json,
    mix_sketches,
    sketch_intensities,
    sketch_levels,
    summarise,
)


def published() -> dict:
    """The shape of the published KiTS19 fingerprint, with one case."""
    return {
        "axis_order": "as stored by the authors: (x, y, z); spacing in mm",
        "channels": {"0": "CT"},
        "labels": {"background": 0, "kidney": 1, "tumor": 2},
        "foreground_intensity": {
            "median": 93.7,
            "mean": 94.5,
            "sd": 70.5,
            "mn": -707.0,
            "mx": 3165.0,
            "percentile_99_5": 285.9,
            "percentile_00_5": -68.3,
        },
        "size_reduction_by_nonzero_crop_median": 1.0,
        "cases": [{"shape": [602, 601, 101], "spacing_mm": [0.7, 0.8, 3.0]}],
    }


def test_sketch_of_few_values_has_their_order_statistics():
    sketch = sketch_intensities(np.array([3.0, 1.0, 2.0]))
    assert (sketch.count, sketch.mean, sketch.variance) == (3, 2.0, pytest.approx(2 / 3))
    assert sketch.quantiles[0] == 1.0 and sketch.quantiles[-1] == 3.0
    assert len(sketch.quantiles) == len(sketch_levels())


def test_the_quantiles_of_a_sketch_are_those_of_numpy():
    values = np.random.default_rng(2).normal(100, 20, 4321).astype(np.float32)
    np.testing.assert_allclose(sketch_intensities(values).quantiles, np.quantile(values, sketch_levels()), rtol=1e-6)


def test_sketch_does_not_grow_with_the_number_of_voxels():
    generator = np.random.default_rng(1)
    assert len(sketch_intensities(generator.normal(size=10**6)).quantiles) == 1025


def test_mixture_of_one_case_is_the_case():
    values = np.random.default_rng(2).normal(100, 20, size=50_000)
    mixed = mix_sketches([sketch_intensities(values)])
    assert mixed.mean == pytest.approx(values.mean())
    assert mixed.std == pytest.approx(values.std())
    assert (mixed.minimum, mixed.maximum) == (values.min(), values.max())
    found = (mixed.percentile_00_5, mixed.median, mixed.percentile_99_5)
    assert found == pytest.approx(np.percentile(values, [0.5, 50, 99.5]), abs=0.1)


def test_every_case_weighs_the_same_in_the_mixture():
    """Against drawing the same number of voxels from each case with replacement, as nnU-Net does."""
    generator = np.random.default_rng(3)
    cases = [generator.normal(mean, 10 + mean / 10, size=size) for mean, size in [(0, 500), (50, 50_000), (200, 3000)]]
    drawn = np.concatenate([generator.choice(case, 300_000) for case in cases])
    mixed = mix_sketches([sketch_intensities(case) for case in cases])
    assert mixed.mean == pytest.approx(drawn.mean(), abs=0.3)
    assert mixed.std == pytest.approx(drawn.std(), rel=0.005)
    found = (mixed.percentile_00_5, mixed.median, mixed.percentile_99_5)
    assert found == pytest.approx(np.percentile(drawn, [0.5, 50, 99.5]), abs=1.0)


def test_whole_numbers_mix_to_whole_percentiles():
    values = np.repeat(np.arange(100), 50)
    mixed = mix_sketches([sketch_intensities(values), sketch_intensities(values)])
    assert mixed.median == pytest.approx(49.5, abs=0.51)
    assert mixed.percentile_00_5 == pytest.approx(0, abs=0.51)


def test_cases_without_foreground_do_not_count():
    filled = sketch_intensities(np.array([1.0, 2.0]))
    assert mix_sketches([sketch_intensities(np.array([])), filled]) == mix_sketches([filled])


def test_no_foreground_at_all_is_an_error():
    with pytest.raises(PlanError, match="no case has foreground"):
        mix_sketches([sketch_intensities(np.array([]))])


def test_summary_takes_the_median_share_left_by_the_crop():
    cases = [CaseFingerprint(str(n), (10, 10, 10), (1.0, 1.0, 1.0), (n, 10, 10)) for n in (2, 4, 9)]
    sketch = sketch_intensities(np.array([1.0, 2.0]))
    found = summarise("made", ["CT"], {"background": 0, "kidney": 1}, cases, [[sketch]] * 3)
    assert found.relative_size_after_crop == pytest.approx(0.4)
    assert found.intensities[0].mean == 1.5


def test_class_volumes_are_in_mm3_over_all_cases(make_fingerprint):
    fingerprint = make_fingerprint([((9, 9, 9), (2.0, 1.0, 1.0), 2)], voxels_per_class=(10, 3))
    assert class_volumes_mm3(fingerprint) == (40.0, 12.0)
    uncounted = replace(fingerprint.cases[0], voxels_per_class=())
    assert class_volumes_mm3(replace(fingerprint, cases=(uncounted, fingerprint.cases[1]))) is None


def test_a_fingerprint_survives_the_way_through_json(make_fingerprint):
    fingerprint = make_fingerprint([((9, 8, 7), (2.0, 1.0, 1.5), 2)], voxels_per_class=(10, 3))
    objects = replace(fingerprint.cases[0], components_per_class=(1, 2), object_sizes_mm3=((20.0,), (3.0, 1.5)))
    fingerprint = replace(fingerprint, cases=(objects, fingerprint.cases[1]))
    value = json.loads(json.dumps(fingerprint_to_json(fingerprint)))
    assert fingerprint_from_json(value, "fingerprint.json") == fingerprint


def test_a_published_fingerprint_is_read_in_its_own_axis_order():
    fingerprint = fingerprint_from_json(published(), "folder/kits19.json")
    (case,) = fingerprint.cases
    assert case.shape == case.cropped_shape == (101, 601, 602)
    assert case.spacing_mm == (3.0, 0.8, 0.7)
    assert fingerprint.dataset_name == "kits19"
    assert fingerprint.channels == ("CT",)
    assert (fingerprint.intensities[0].std, fingerprint.intensities[0].percentile_00_5) == (70.5, -68.3)


def test_a_published_fingerprint_may_be_in_our_axis_order():
    fingerprint = fingerprint_from_json({**published(), "axis_order": "(z, y, x)"}, "f.json")
    assert fingerprint.cases[0].shape == (602, 601, 101)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axis_order": "(y, x, z)"}, r"axis_order: found '\(y, x, z\)', expected a text with"),
        ({"cases": []}, "at least one case"),
        ({"cases": [{"shape": [1, 2, 3]}]}, r"cases\[0\].spacing_mm: found None, expected a list"),
        ({"cases": [{"shape": [1, 2], "spacing_mm": [1, 1]}]}, r"cases\[0\].shape: found \[2, 1\], expected three"),
        ({"cases": [[1, 2, 3]]}, "an object with shape and spacing_mm"),
        ({"channels": {}}, "one entry for each of 0 channels"),
        ({"channels": {"0": "T1", "1": "T2"}}, "found 1, expected one entry for each of 2 channels"),
        ({"labels": {"background": 0}}, "at least one class"),
        ({"foreground_intensity": {"mean": 3}}, "foreground_intensity.std: found None, expected a finite number"),
    ],
)
def test_a_published_fingerprint_that_cannot_be_meant_is_refused(change, message):
    with pytest.raises(PlanError, match=message) as error:
        fingerprint_from_json({**published(), **change}, "f.json")
    assert str(error.value).startswith("f.json: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "version: found 0, expected 1"),
        ({"weather": "fine"}, "found 'weather', expected only the fields"),
        ({"relative_size_after_crop": math.inf}, "relative_size_after_crop: found inf, expected a finite number"),
        ({"labels": {"background": 0, "a": 1.5}}, "labels.a: found 1.5, expected a whole number"),
        ({"intensities": []}, "found 0, expected one entry for each of 1 channels"),
    ],
)
def test_a_fingerprint_of_ours_that_was_damaged_is_refused(change, message, make_fingerprint):
    value = fingerprint_to_json(make_fingerprint([((9, 8, 7), (2.0, 1.0, 1.5), 2)]))
    with pytest.raises(PlanError, match=message):
        fingerprint_from_json({**value, **change}, "f.json")


def test_counts_for_another_number_of_classes_are_refused(make_fingerprint):
    fingerprint = make_fingerprint([((9, 8, 7), (2.0, 1.0, 1.5), 2)], voxels_per_class=(1, 2, 3))
    with pytest.raises(PlanError, match=r"cases\[0\].voxels_per_class: found 3, expected none or 2"):
        fingerprint_from_json(fingerprint_to_json(fingerprint), "f.json")


@pytest.mark.parametrize("value", [None, [], "text"])
def test_what_is_no_object_is_no_fingerprint(value):
    with pytest.raises(PlanError, match="expected a fingerprint"):
        fingerprint_from_json(value, "f.json")
