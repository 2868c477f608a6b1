from dataclasses import replace

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.errors import DatasetError
from msseg.inference.averaging import classes_of, read_mean, shares
from msseg.inference.probability_files import read_probabilities, read_stored, write_probabilities
from planning.instances import InstancePlan

GRID = Geometry((1, 1, 4), (1.0, 1.0, 1.0))
LABELS = {"background": 0, "kidney": 1, "tumour": 5}
# Four voxels, by class: what two models say of each.
FIRST = [[0.5, 0.1, 0.3, 1.0], [0.4, 0.8, 0.3, 0.0], [0.1, 0.1, 0.4, 0.0]]
SECOND = [[0.1, 0.2, 0.3, 0.2], [0.8, 0.1, 0.6, 0.0], [0.1, 0.7, 0.1, 0.8]]


@pytest.fixture
def write(tmp_path):
    def written(name, rows, bits=16, labels=LABELS, geometry=GRID, instances=None):
        values = np.array(rows, np.float32)[:, None, None]
        write_probabilities(tmp_path / name, values, geometry, labels, bits, instances)
        return tmp_path / name

    return written


def test_the_mean_is_that_of_the_probabilities(write):
    mean = read_mean([write("a.npz", FIRST), write("b.npz", SECOND)])
    expected = (np.array(FIRST) + np.array(SECOND)) / 2
    assert mean.probabilities()[:, 0, 0] == pytest.approx(expected, abs=mean.largest_error + 1e-7)
    assert mean.classes()[0, 0].tolist() == [1, 1, 1, 0]
    assert list(mean.labels.items()) == list(LABELS.items())


def test_weights_count_as_shares(write):
    mean = read_mean([write("a.npz", FIRST), write("b.npz", SECOND)], weights=(1, 3))
    assert mean.weights == (0.25, 0.75)
    assert mean.probabilities()[2, 0, 0, 1] == pytest.approx(0.25 * 0.1 + 0.75 * 0.7, abs=1e-5)
    assert mean.classes()[0, 0].tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("weights", [(1,), (1, -1), (0, 0), (1, float("inf"))])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="for 2 models"):
        shares(weights, 2)


def test_the_largest_error_is_half_a_step_of_each_by_weight_and_holds(write):
    exact = np.random.default_rng(0).dirichlet([1, 1, 1], 4).T
    mean = read_mean([write("a.npz", exact, bits=8), write("b.npz", exact, bits=16)], weights=(3, 1))
    assert mean.largest_error == pytest.approx(0.75 * 0.5 / 255 + 0.25 * 0.5 / 65535)
    assert np.abs(mean.probabilities()[:, 0, 0] - exact).max() <= mean.largest_error + 1e-7


def test_doubtful_are_voxels_that_rounding_could_turn(write):
    step = 1 / 255
    rows = [[0.5, 0.5 + 2 * step, 0.9, 0.3], [0.5, 0.5 - 2 * step, 0.1, 0.3], [0.0, 0.0, 0.0, 0.4]]
    assert read_mean([write("a.npz", rows, bits=8)]).doubtful() == 1
    two = {"background": 0, "one": 1}
    thresholded = read_mean([write("b.npz", rows[:2], bits=8, labels=two)])
    assert thresholded.doubtful(threshold=0.1) == 1
    assert thresholded.doubtful(threshold=0.3) == 0


def test_a_threshold_is_for_all_classes_but_the_first_together():
    slab = np.array([[0.6, 0.4], [0.3, 0.3], [0.1, 0.3]])
    assert classes_of(slab).tolist() == [0, 0]
    assert classes_of(slab, threshold=0.5).tolist() == [False, True]
    assert classes_of(slab, InstancePlan("nucleus", 1)).tolist() == [False, True]


def test_slabs_add_up_to_the_whole(write, monkeypatch):
    grid = Geometry((5, 2, 2), (1.0, 1.0, 1.0))
    values = np.random.default_rng(1).dirichlet([1, 1, 1], (5, 2, 2)).transpose(3, 0, 1, 2).astype(np.float32)
    path = write("a.npz", np.zeros((3, 4)))
    write_probabilities(path, values, grid, LABELS, 16)
    mean = read_mean([path])
    whole = mean.classes()
    monkeypatch.setattr("msseg.inference.averaging._SLAB_VALUES", 24)
    assert [rows.stop - rows.start for rows, _ in mean.slabs()] == [2, 2, 1]
    assert np.array_equal(mean.classes(), whole) and np.array_equal(whole, values.argmax(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "tumour": 5, "kidney": 1}}, "labels"),
        ({"geometry": replace(GRID, origin_mm=(0.0, 0.0, 1.0))}, "1 mm off"),
        ({"instances": InstancePlan("nucleus", 1)}, "objects"),
    ],
)
def test_what_does_not_belong_together_is_not_averaged(write, changes, message):
    first = write("a.npz", FIRST)
    with pytest.raises(DatasetError, match=message):
        read_mean([first, write("b.npz", SECOND, **changes)])


def test_other_shapes_are_not_averaged(write):
    first, other = write("a.npz", FIRST), write("b.npz", SECOND)
    write_probabilities(other, np.zeros((3, 1, 1, 2), np.float32), Geometry((1, 1, 2), (1.0, 1.0, 1.0)), LABELS)
    with pytest.raises(DatasetError, match="shape"):
        read_mean([first, other])


def test_stored_numbers_are_the_probabilities_by_steps(write):
    path = write("a.npz", FIRST, bits=8)
    stored = read_stored(path)
    assert stored.probabilities.dtype == np.uint8
    assert read_probabilities(path).probabilities == pytest.approx(stored.probabilities / 255, abs=1e-7)
