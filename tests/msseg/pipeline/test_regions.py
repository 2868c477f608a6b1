"""Models of regions where they are compared, mended, measured, exported and explained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, Checkpoint, load_checkpoint, load_model, save_checkpoint
from msseg.data.cases import Case
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.data.labels import LabelMap
from msseg.errors import CheckpointError, DatasetError, MssegError
from msseg.evaluation.evaluate import EvaluationOptions, evaluate_folder
from msseg.evaluation.pairs import Pair
from msseg.files import read_json, write_json
from msseg.folders import Task
from msseg.inference.answers import answering
from msseg.inference.predictor import load_predictor
from msseg.inference.probability_files import write_probabilities
from msseg.inference.speeds import measured_speeds
from msseg.networks import build_network
from msseg.pipeline.candidate_scores import score, task_metric
from msseg.pipeline.cross_validation import CrossValidation, Folds, cross_validations, read_folds
from msseg.pipeline.decisions import deciding_metric
from msseg.pipeline.explain_prediction import Views, work_of
from msseg.pipeline.inference_file import Inference, Member, write_inference
from msseg.pipeline.inference_prediction import predict_inference
from msseg.pipeline.out_of_fold_scores import scored_path
from msseg.pipeline.speed_records import write_summary
from msseg.pipeline.speeds import measure_fold
from msseg.pipeline.validation import choose_postprocessing
from msseg.postprocessing.decide import rules_score
from planning.regions import Region

GRID = Geometry((2, 8, 12), (1.0, 1.0, 1.0))
LABELS = {"background": 0, "oedema": 2, "core": 4}
REGIONS = (Region("whole", (1, 2), 1), Region("core", (2,), 2))


@pytest.fixture
def plan(make_plan, make_configuration):
    return make_plan(make_configuration(), labels=LABELS, class_weights=(1.0, 1.0, 1.0), regions=REGIONS)


def label_of(*boxes) -> np.ndarray:
    """A label map (z, y, x) with the value of each box (rows, columns, value) in its order."""
    label = np.zeros(GRID.shape, np.uint8)
    for rows, columns, value in boxes:
        label[:, rows, columns] = value
    return label


# A whole of 6 x 6 with a core of 2 x 2, and what a model makes of it: the core twice too large, with a far speck.
REFERENCE = label_of((slice(0, 6), slice(0, 6), 2), (slice(2, 4), slice(2, 4), 4))
WHOLE = REFERENCE > 0
LARGE_CORE = label_of((slice(2, 4), slice(2, 6), 1)) > 0
SPECK = label_of((slice(7, 8), slice(11, 12), 1)) > 0


class Compared:
    """Cases of two folds with probabilities of both regions, as the folds that left them out would have saved them."""

    def __init__(self, folder: Path, plan):
        self.folder, self.plan, self.cases = folder, plan, {}
        self.folds = Folds({"0": ("a", "c"), "1": ("b", "d")}, None)

    def model(self, name: str, whole: np.ndarray, core: np.ndarray) -> CrossValidation:
        values = np.where(np.stack([whole, core]), 0.9, 0.1).astype(np.float32)
        for fold, cases in self.folds.validation.items():
            for case in cases:
                path = scored_path(self.folder / name, fold, case)
                write_probabilities(path, values, GRID, LABELS, 8, regions=self.plan.regions)
                label = self.folder / "labels" / f"{case}.nii.gz"
                write_label(label, REFERENCE, GRID)
                self.cases[case] = Case(case, (), label)
        return CrossValidation(self.folder / name, self.plan, {}, ())


def test_the_figure_of_a_model_is_the_mean_dice_of_its_regions(tmp_path, plan):
    compared = Compared(tmp_path, plan)
    model = compared.model("a", WHOLE, LARGE_CORE)
    found = score([model], compared.folds, compared.cases, task_metric(plan))
    assert found.plain.figure() == pytest.approx((1 + 2 * 4 / (4 + 8)) / 2)


def test_a_pair_of_models_is_painted_from_the_mean_of_their_sigmoids(tmp_path, plan):
    compared = Compared(tmp_path, plan)
    small = label_of((slice(2, 4), slice(2, 3), 1)) > 0
    pair = [compared.model("a", WHOLE, LARGE_CORE), compared.model("b", WHOLE, small)]
    found = score(pair, compared.folds, compared.cases, task_metric(plan))
    # The core's mean is .9 in the small one, .5 in the rest of the large one, which does not exceed a half.
    assert found.plain.figure() == pytest.approx((1 + 2 * 2 / (2 + 4)) / 2)


def test_rules_are_chosen_by_the_dice_of_regions(tmp_path, plan):
    """Without its speck of core the whole and the core gain; by classes the oedema would say nothing of it."""
    compared = Compared(tmp_path, plan)
    model = compared.model("a", WHOLE | SPECK, LARGE_CORE | SPECK)
    found = score([model], compared.folds, compared.cases, task_metric(plan))
    assert found.is_treated and found.treatment.rules
    assert found.nested.figure() == pytest.approx((1 + 2 * 4 / (4 + 8)) / 2)


def test_probabilities_of_other_regions_are_not_taken(tmp_path, plan):
    compared = Compared(tmp_path, plan)
    model = compared.model("a", WHOLE, LARGE_CORE)
    other = replace(plan, regions=REGIONS[::-1])
    with pytest.raises(DatasetError, match="not the probabilities of the model's regions"):
        score([replace(model, plan=other)], compared.folds, compared.cases, task_metric(other))


def test_no_threshold_is_looked_for(plan):
    assert deciding_metric(plan, None) is None
    with pytest.raises(MssegError, match="for a single label, but the data set has 2 regions"):
        deciding_metric(plan, "dice")


def test_a_challenges_regions_may_be_others_than_the_models(plan):
    metric = task_metric(replace(plan, labels={"background": 0, "edema": 2, "core": 4}), "brats21")
    assert metric.name == "brats21" and set(metric.measuring.labels) != {"whole", "core"}


def test_the_rules_of_a_validated_model_are_those_that_help_its_regions(tmp_path, plan):
    """A core that is taken for oedema: by classes the oedema gains without it, as a region the whole would lose."""
    near, far = (slice(0, 6), slice(0, 6)), (slice(7, 8), slice(8, 12))
    reference, found = label_of((*near, 2), (*far, 4)), label_of((*near, 2), (*far, 2))
    pairs = []
    for name in ("a", "b"):
        write_label(tmp_path / "found" / f"{name}.nii.gz", found, GRID)
        write_label(tmp_path / "labels" / f"{name}.nii.gz", reference, GRID)
        pairs.append(Pair(name, tmp_path / "found" / f"{name}.nii.gz", tmp_path / "labels" / f"{name}.nii.gz"))
    chosen = {}
    for what, regions in (("classes", ()), ("regions", REGIONS)):
        fold = tmp_path / what / "fold_0"
        choose_postprocessing(fold, pairs, LabelMap((0, 2, 4)), 1, score=rules_score(regions))
        chosen[what] = [rule["rule"] for rule in read_json(fold.parent / "postprocessing.json")["rules"]]
    assert chosen == {"classes": ["largest_component_together"], "regions": []}


def test_folds_of_other_regions_are_to_be_trained_again(tmp_path, plan):
    task = Task("Task01_X", tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "models")
    splits = [{"train": ["b"], "validation": ["a"]}, {"train": ["a"], "validation": ["b"]}]
    write_json(task.preprocessed / "splits.json", {"group_by": None, "folds": splits})
    for fold, case, regions in ((0, "a", REGIONS), (1, "b", REGIONS[:1])):
        recipe = {"name": "budget", "steps_per_epoch": 50, "loss_options": {}}
        identity = {"validation_cases": [case], "recipe": recipe, "seed": 0}
        metadata = {"identity": identity, "ended": "epochs", "steps": 50}
        path = task.models / "m" / f"fold_{fold}" / FINAL
        save_checkpoint(path, Checkpoint({"w": torch.zeros(1)}, replace(plan, regions=regions), "3d", metadata))
    (model,) = cross_validations(task, read_folds(task))
    assert model.lacking == {"1": "trained with other regions"}


@pytest.fixture
def save_model(tmp_path, plan, make_configuration):
    """Writes a fold of an untrained network of regions in 2D, by its name; the model's folder."""

    def save(network: str) -> Path:
        configuration = make_configuration(
            (8, 8),
            network=network,
            features=(4, 6, 8),
            strides=((2, 2),) * 2,
            kernel_sizes=((3, 3),) * 3,
            encoder_convolutions=(1,) * 3,
            decoder_convolutions=(1,) * 2,
            supervision_weights=(0.5, 0.5),
        )
        own = replace(plan, configurations={"2d": configuration}, default_configuration="2d")
        weights = build_network(configuration, 1, own.outputs, torch.Generator().manual_seed(1)).state_dict()
        folder = tmp_path / "models" / "Task05_Boxes" / f"2d_{network}"
        metadata = {"identity": {"validation_cases": ["box"]}}
        save_checkpoint(folder / "fold_0" / FINAL, Checkpoint(weights, own, "2d", metadata))
        return folder

    return save


def test_an_exported_network_gives_the_logit_of_the_branches_mean_sigmoid(save_model, tmp_path):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    import onnxruntime

    from msseg.pipeline.export import export_onnx

    folder, path = save_model("unet2p"), tmp_path / "network.onnx"
    export_onnx(folder, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    said = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert said["classes"] == ["background", "oedema", "core"]
    assert said["regions"][0] == {"name": "whole", "classes": [1, 2], "painted": 1}
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    network = load_model(folder).networks[0]
    with torch.no_grad():
        wanted = answering(network, regions=True)(image).logits
        mean = torch.stack([branch.sigmoid() for branch in network(image).logits]).mean(0)
    found = session.run(None, {"image": image.numpy()})[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), mean, atol=1e-4)


def test_the_presets_of_speed_are_measured_by_region(save_model, tmp_path):
    folder = save_model("unet2p")
    image = np.random.default_rng(0).normal(size=(1, *GRID.shape)).astype(np.float32)
    write_image(tmp_path / "box_0000.nii", image, GRID)
    write_label(tmp_path / "box.nii", REFERENCE, GRID)
    predictor = load_predictor(folder, torch.device("cpu"))
    case = Case("box", (tmp_path / "box_0000.nii",), tmp_path / "box.nii")
    assert measure_fold(predictor, folder / "fold_0", [case]) == 1
    assert write_summary(folder)
    record = read_json(folder / "fold_0" / "speeds.json")
    assert record["regions"] == ["whole", "core"]
    overlaps = record["cases"]["box"]["overlaps"]["exact"]
    assert overlaps["reference"] == [int(WHOLE.sum()), int((REFERENCE == 4).sum())]
    label = predictor.predict_array(image, GRID.spacing_mm)
    both = [(label > 0) & WHOLE, (label == 4) & (REFERENCE == 4)]
    assert overlaps["both"] == [int(one.sum()) for one in both]
    dice = [2 * b / (p + r) for b, p, r in zip(*overlaps.values(), strict=True)]
    assert measured_speeds(folder)["exact"].dice == pytest.approx(np.mean(dice))


def test_a_prediction_is_explained_by_the_scores_of_its_network(plan, tmp_path):
    configuration = plan.configurations["3d"]
    write_image(tmp_path / "a_0000.nii", np.zeros((1, *GRID.shape), np.float32), GRID)
    case = Case("a", (tmp_path / "a_0000.nii",), None)
    work = work_of(plan, configuration, 1, [case], Views(), "cpu")
    assert work.num_classes == 2


def test_an_evaluation_takes_the_regions_of_the_references_description(tmp_path):
    for folder, label in (("found", np.where(REFERENCE == 2, 4, REFERENCE)), ("labels", REFERENCE)):
        write_label(tmp_path / folder / "a.nii.gz", label.astype(np.uint8), GRID)
    labels = {"background": 0, "whole": [2, 4], "core": 4}
    write_json(tmp_path / "dataset.json", {"labels": labels, "regions_class_order": [2, 4]})
    found = evaluate_folder(tmp_path / "found", tmp_path / "labels", options=EvaluationOptions(surfaces=False))
    dice = {name: one.values["dice"] for name, one in found.cases[0].labels.items()}
    assert dice == {"whole": 1.0, "core": pytest.approx(2 * 4 / (36 + 4))}


def test_members_of_other_regions_are_not_averaged(save_model, plan, tmp_path):
    folders = [save_model("unet2p"), save_model("plain_unet")]
    checkpoint = load_checkpoint(folders[1] / "fold_0" / FINAL)
    others = replace(checkpoint, plan=replace(checkpoint.plan, regions=REGIONS[::-1]))
    save_checkpoint(folders[1] / "fold_0" / FINAL, others)
    write_inference(tmp_path / "pair.json", Inference(tuple(Member(folder, ("0",)) for folder in folders)))
    with pytest.raises(CheckpointError, match="other labels or regions"):
        predict_inference(tmp_path, tmp_path / "out", tmp_path / "pair.json")
