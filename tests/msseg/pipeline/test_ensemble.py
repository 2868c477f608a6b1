import importlib

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_label
from msseg.errors import DatasetError
from msseg.inference.probability_files import probabilities_path, read_probabilities, write_probabilities
from msseg.instances.decision import Decision
from msseg.pipeline.ensemble import EnsembleOptions, ensemble
from msseg.postprocessing.rules import LARGEST_TOGETHER, Rule
from planning.instances import InstancePlan

GRID = Geometry((1, 2, 4), (3.0, 1.0, 1.0), (1.0, 2.0, 3.0))
LABELS = {"background": 0, "bar": 5}


def foreground(rows, geometry=GRID):
    share = np.array(rows, np.float32).reshape(geometry.shape)
    return np.stack([1 - share, share])


FIRST = foreground([[0.9, 0.9, 0.1, 0.4], [0.9, 0.9, 0.1, 0.1]])
SECOND = foreground([[0.9, 0.2, 0.1, 0.8], [0.4, 0.0, 0.1, 0.1]])


@pytest.fixture
def folders(tmp_path):
    """Two members' probabilities of one case, in 8 bits; the first has a label map beside them."""
    for name, values in (("first", FIRST), ("second", SECOND)):
        write_probabilities(probabilities_path("case", tmp_path / name), values, GRID, LABELS, 8)
    write_label(tmp_path / "first" / "case.mha", np.zeros(GRID.shape, np.uint8), GRID)
    return [tmp_path / "first", tmp_path / "second"]


def test_the_label_map_is_of_the_mean_in_the_labels_values_on_the_images_grid(folders, tmp_path):
    report = ensemble(folders, tmp_path / "out")
    label, geometry = read_label(tmp_path / "out" / "case.mha")
    assert label[0].tolist() == [[5, 5, 0, 5], [5, 0, 0, 0]]
    assert geometry.spacing_mm == GRID.spacing_mm and geometry.origin_mm == GRID.origin_mm
    assert report.written == ("case",) and report.is_complete
    assert report.largest_error == pytest.approx(0.5 / 255)
    assert (report.doubtful, report.voxels) == (0, 8)
    assert "at most 0.002 off" in report.summary("out") and "at most 0 of 8 voxels" in report.summary("out")


def test_weights_decide_where_members_disagree(folders, tmp_path):
    ensemble(folders, tmp_path / "out", EnsembleOptions(weights=(0.0, 2.0)))
    assert read_label(tmp_path / "out" / "case.mha")[0][0].tolist() == [[5, 0, 0, 5], [0, 0, 0, 0]]


def test_decision_and_rules_are_applied_to_the_mean(folders, tmp_path):
    options = EnsembleOptions(decision=Decision(foreground=0.42), rules=(Rule(LARGEST_TOGETHER, (1,)),))
    ensemble(folders, tmp_path / "out", options)
    assert read_label(tmp_path / "out" / "case.mha")[0][0].tolist() == [[5, 5, 0, 0], [5, 5, 0, 0]]


def test_the_mean_may_be_saved_and_averaged_again(folders, tmp_path):
    ensemble(folders, tmp_path / "out", EnsembleOptions(probability_bits=16))
    saved = read_probabilities(probabilities_path("case", tmp_path / "out"))
    assert saved.bits == 16 and list(saved.labels.items()) == list(LABELS.items())
    assert saved.probabilities == pytest.approx((FIRST + SECOND) / 2, abs=0.5 / 255 + 1e-5)


def test_what_is_there_is_kept_unless_it_is_to_be_overwritten(folders, tmp_path):
    ensemble(folders, tmp_path / "out")
    again = ensemble(folders, tmp_path / "out")
    assert (again.written, again.skipped) == ((), ("case",))
    assert ensemble(folders, tmp_path / "out", overwrite=True).written == ("case",)
    assert ensemble(folders, tmp_path / "out", EnsembleOptions(probability_bits=8)).written == ("case",)


def test_folders_of_other_cases_are_refused(folders, tmp_path):
    write_probabilities(probabilities_path("more", folders[1]), SECOND, GRID, LABELS, 8)
    with pytest.raises(DatasetError, match="has more besides"):
        ensemble(folders, tmp_path / "out")
    with pytest.raises(DatasetError, match="lacks more"):
        ensemble(folders[::-1], tmp_path / "out")


def test_folders_without_probabilities_weights_that_do_not_fit_and_the_inputs_place_are_refused(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="save-probabilities"):
        ensemble([*folders, tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(DatasetError, match="--weights"):
        ensemble(folders, tmp_path / "out", EnsembleOptions(weights=(1.0,)))
    with pytest.raises(DatasetError, match="replace the inputs"):
        ensemble(folders, folders[0])


def test_a_case_that_does_not_fit_harms_no_other(folders, tmp_path):
    other = Geometry((1, 2, 4), (3.0, 1.0, 2.0))
    for folder, geometry in zip(folders, (GRID, other), strict=True):
        write_probabilities(probabilities_path("apart", folder), FIRST, geometry, LABELS, 8)
    report = ensemble(folders, tmp_path / "out")
    assert report.written == ("case",) and not report.is_complete
    assert "4.12 mm off" in report.failed["apart"]


def test_levels_become_a_mask_or_numbered_objects(tmp_path):
    grid = Geometry((1, 9, 20), (1.0, 1.0, 1.0), has_spacing=False)
    share = np.zeros(grid.shape, np.float32)
    share[0, 2:7, 2:7] = share[0, 2:7, 12:17] = 0.98
    values = np.stack([1 - share, share * 0, share * 0, share])
    labels = {"background": 0, "border": 1, "rim": 2, "core": 3}
    for name in ("a", "b"):
        path = probabilities_path("cells", tmp_path / name)
        write_probabilities(path, values, grid, labels, 8, InstancePlan("nucleus", 7))
    ensemble([tmp_path / "a", tmp_path / "b"], tmp_path / "mask")
    ensemble([tmp_path / "a", tmp_path / "b"], tmp_path / "objects", EnsembleOptions(instances=True))
    mask, objects = (read_label(tmp_path / room / "cells.nii.gz")[0] for room in ("mask", "objects"))
    assert set(np.unique(mask)) == {0, 7} and set(np.unique(objects)) == {0, 1, 2}
    assert np.array_equal(mask > 0, share > 0) and np.array_equal(objects > 0, share > 0)


def test_the_command_averages_and_predicts_its_cost(folders, tmp_path, capsys, make_machine, monkeypatch):
    main = importlib.import_module("msseg.commands.ensemble").main
    monkeypatch.setattr("msseg.machine.measured_machine", lambda **_: make_machine())
    arguments = ["-i", *map(str, folders), "-o", str(tmp_path / "out"), "--quiet"]
    assert main([*arguments, "--explain"]) == 0
    assert "peak RAM" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert main(arguments) == 0
    assert (tmp_path / "out" / "case.mha").is_file()
    assert main([*arguments, "--weights", "1"]) == 1
    assert "--weights" in capsys.readouterr().err
