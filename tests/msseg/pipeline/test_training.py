from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.errors import DatasetError, PlanError
from msseg.files import read_json, write_json
from msseg.folders import Task, find_task
from msseg.inference.predictor import PredictionOptions
from msseg.inference.speeds import measured_speeds
from msseg.pipeline import validation
from msseg.pipeline.configurations import plan_for_network
from msseg.pipeline.planning import PlanningOptions, load_plan, plan_and_preprocess
from msseg.pipeline.prediction import load_predictor
from msseg.pipeline.prepared_cases import prepared_cases
from msseg.pipeline.training import TrainingReport, train
from msseg.pipeline.training_options import TrainingOptions
from msseg.training.job import TrainingResult
from planning.fingerprint import fingerprint_from_json, fingerprint_to_json
from planning.plan import plan_to_json
from planning.planner import Budget, make_plan

TASK = "Dataset003_Bars"
SHAPE = (6, 16, 18)
CASES = 5


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    """Five planned and preprocessed volumes of two channels with one bright bar, whose label is 5."""
    root = tmp_path_factory.mktemp("root")
    raw = root / "raw" / TASK
    generator = np.random.default_rng(0)
    geometry = Geometry(SHAPE, (3.0, 1.0, 1.0))
    for number in range(CASES):
        label = np.zeros(SHAPE, np.uint8)
        label[1:5, 4:11, 3 + number : 9 + number] = 5
        for channel in range(2):
            image = generator.normal(0, 1, SHAPE).astype(np.float32) + (2 - channel) * (label > 0)
            write_image(raw / "imagesTr" / f"bar_{number}_000{channel}.nii.gz", image[None], geometry)
        write_label(raw / "labelsTr" / f"bar_{number}.nii.gz", label, geometry)
    description = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "bar": 5}}
    write_json(raw / "dataset.json", {**description, "numTraining": CASES, "file_ending": ".nii.gz"})
    plan_and_preprocess(TASK, root, PlanningOptions(memory_bytes=1_000_000_000), workers=1)
    return find_task(TASK, root)


def root_of(task: Task):
    return task.preprocessed.parent.parent


def test_another_configuration_is_prepared_trained_validated_and_predicted(task, monkeypatch):
    monkeypatch.setattr(validation, "SHARE_OF_TRAINING", 1000.0)  # a tenth of so short a training would measure nothing
    options = TrainingOptions(configuration="2d", recipe="budget", epochs=1)
    report = train(TASK, 0, root_of(task), options, device="cpu", workers=1)
    assert report.complete and report.validation is not None
    assert report.model.name == "2d_plain_unet"
    assert report.validation.mean_foreground["dice"] > 0.7
    exact = measured_speeds(report.model)["exact"]
    assert exact.cases == len(report.validation.cases) == 1
    assert exact.dice == pytest.approx(report.validation.mean_foreground["dice"], abs=0.01)
    predictor = load_predictor(report.model, device="cpu")
    assert predictor.model.configuration.dimensions == 2
    label = predictor.predict_array(np.zeros((2, 4, 9, 40), np.float32), (3.0, 1.0, 1.0))
    assert label.shape == (4, 9, 40) and set(np.unique(label)) <= {0, 5}


def test_a_configuration_of_the_same_network_leaves_the_plan_as_it_is(task):
    plan = load_plan(task)
    assert plan_for_network(task, plan, plan.configurations["3d"].network) is plan
    other = plan_for_network(task, plan, "mss_unet", "2d")
    assert other.configurations["2d"].network == "mss_unet"
    assert other.configurations["2d"].spacing_mm == plan.configurations["2d"].spacing_mm


def test_another_network_grows_as_the_plan_was_asked_to(task, tmp_path):
    plan = replace(load_plan(task), memory_bytes=32_000_000_000)
    other = replace(task, preprocessed=tmp_path)
    small = fingerprint_from_json(read_json(task.fingerprint_path), "test")
    cases = tuple(replace(case, cropped_shape=(80, 300, 300)) for case in small.cases)
    fingerprint = replace(small, cases=cases)
    write_json(other.fingerprint_path, fingerprint_to_json(fingerprint))
    write_json(tmp_path / "planned.json", {"budget": {"grow": "batch"}})
    by_growth = {
        grow: make_plan(fingerprint, Budget(plan.memory_bytes, "plain_unet", grow)).configurations["3d"].patch_size
        for grow in ("batch", "patch")
    }
    found = plan_for_network(other, plan, "plain_unet").configurations["3d"].patch_size
    assert found == by_growth["batch"] != by_growth["patch"]


def test_a_validation_that_was_stopped_is_not_complete_and_says_how_to_go_on(tmp_path):
    result = TrainingResult("epochs", False, steps=9, epochs=1, elapsed_s=1.0, checkpoint=tmp_path)
    report = TrainingReport(tmp_path, "0", result, validation=None, validation_stopped=True)
    assert not report.complete
    assert "Run the same command again" in report.summary()
    assert replace(report, validation_stopped=False).complete


def test_cases_of_another_spacing_than_the_plans_are_refused(task):
    plan = load_plan(task)
    configuration = replace(plan.configurations["3d"], spacing_mm=(9.0, 1.0, 1.0))
    with pytest.raises(PlanError, match="Run msseg_plan_and_preprocess again"):
        prepared_cases(task, plan, configuration, workers=1, quiet=True)


def test_without_preprocessed_cases_the_command_to_run_is_named(task, tmp_path):
    empty = replace(task, preprocessed=tmp_path)
    write_json(empty.plan_path, plan_to_json(load_plan(task)))
    plan = load_plan(empty)
    for configuration in plan.configurations.values():
        with pytest.raises(DatasetError, match=f"Run msseg_plan_and_preprocess {TASK} first"):
            prepared_cases(empty, plan, configuration, workers=1, quiet=True)


def test_options_make_another_network_with_a_folder_of_its_own(task):
    plan = load_plan(task)
    whole = plan_for_network(task, plan, "unet_sharp")
    cut = plan_for_network(task, plan, "unet_sharp", options={"most_levels": 2})
    assert len(whole.configurations["3d"].features) > len(cut.configurations["3d"].features) == 2
    assert cut.configurations["3d"].network_options == {"most_levels": 2}
    assert cut.configurations["3d"].spacing_mm == plan.configurations["3d"].spacing_mm


def test_options_alone_change_the_plans_own_network_and_join_those_it_has(task):
    plan = load_plan(task)
    one = plan_for_network(task, plan, None, options={"most_levels": 3})
    assert one.configurations["3d"].network == plan.configurations["3d"].network
    both = plan_for_network(task, one, None, options={"head_bias": True, "up_bias": True, "norm": "batch"})
    told = both.configurations["3d"].network_options
    assert told["most_levels"] == 3 and told["norm"] == "batch"
    assert plan_for_network(task, both, None, options={"norm": "batch"}) is both


def test_options_that_say_what_the_row_says_change_nothing(task):
    plan = plan_for_network(task, load_plan(task), "unet")
    assert plan_for_network(task, plan, "unet", options={"encoder": "blocks", "grid": "plain"}) is plan


def test_an_unknown_option_is_refused_by_name(task):
    with pytest.raises(PlanError, match="most_level"):
        plan_for_network(task, load_plan(task), "unet", options={"most_level": 2})


def test_an_encoder_of_the_literature_leaves_a_plan_of_2d_alone_whose_cases_are_prepared(task):
    plan = plan_for_network(task, load_plan(task), "unet", options={"encoder": "vgg16"})
    assert (list(plan.configurations), plan.default_configuration) == (["2d"], "2d")
    names = prepared_cases(task, plan, plan.configurations["2d"], workers=1, quiet=True)
    assert len(names) == CASES
    with pytest.raises(PlanError, match="configuration 3d: encoder vgg16 is for 2D alone"):
        train(TASK, 0, root_of(task), TrainingOptions("3d", "unet", {"encoder": "vgg16"}), device="cpu", workers=1)


def test_slices_with_their_neighbours_share_the_cases_of_2d_and_predict_as_they_were_trained(task, monkeypatch):
    monkeypatch.setattr(validation, "SHARE_OF_TRAINING", 1000.0)
    quick = {"steps_per_epoch": 20, "mirrors": "none"}
    options = TrainingOptions(configuration="2.5d", recipe="budget", epochs=1, overrides=quick)
    report = train(TASK, 0, root_of(task), options, device="cpu", workers=1)
    assert report.complete
    assert report.model.name == "2.5d_plain_unet"
    assert task.store("2.5d") == task.store("2d")
    assert "2.5d" not in load_plan(task).configurations
    predictor = load_predictor(report.model, options=PredictionOptions(mirror=False))
    generator = np.random.default_rng(1)
    patch = predictor.model.configuration.patch_size
    prepared = predictor.prepare(generator.normal(size=(2, 4, *patch)).astype(np.float32), (3.0, 1.0, 1.0))
    slices = prepared.image
    assert slices.shape == (2, 4, *patch)
    network = predictor.model.networks[0]
    scores = predictor.score(prepared).numpy()
    for index, (before, after) in enumerate([(1, 1), (0, 2), (1, 3), (2, 2)]):
        channels = torch.from_numpy(np.concatenate([slices[:, before], slices[:, index], slices[:, after]]))
        with torch.no_grad():
            expected = network(channels[None]).logits[0]
        np.testing.assert_allclose(scores[:, index], expected[0].numpy(), atol=1e-4)
