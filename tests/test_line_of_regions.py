"""The whole line on overlapping regions, through the commands: planned, trained, predicted, compared, averaged."""

import json

import numpy as np
import pytest

from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.evaluation.overlap import confusion_matrix, counts_of, overlap_metrics
from msseg.files import read_json, write_json
from msseg.inference.probability_files import read_probabilities
from planning.regions import Region

TASK = "Dataset021_Tumours"
CASES, SHAPE = 6, (8, 20, 22)
VALUES = {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)}
PAINTED = (2, 1, 4)
TINY = ["--epochs", "1", "--recipe", "budget", "--device", "cpu", "--workers", "1", "--quiet"]
TINY += ["--set", "steps_per_epoch=40", "--set", "validation_batches=1", "--set", "base_features=6"]
ONE = ["--device", "cpu", "--workers", "1", "--quiet"]


def tumour(generator):
    """A noisy image (1, z, y, x), and its label: oedema (2) around a core (1) that holds an enhancing part (4)."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    distance = np.linalg.norm((places - (4, *generator.uniform(9, 11, 2))) * (1.5, 1, 1), axis=-1)
    label = np.select([distance < 2.5, distance < 4.5, distance < 7], [4, 1, 2]).astype(np.uint8)
    brightness = np.array([0, 8, 4, 0, 12])[label]
    return (brightness + generator.normal(0, 0.5, SHAPE)).astype(np.float32)[None], label


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with the raw data set: six training cases of two patients, two test cases with labels."""
    folder = tmp_path_factory.mktemp("regions")
    raw, generator, geometry = folder / "raw" / TASK, np.random.default_rng(0), Geometry(SHAPE, (1.5, 1.0, 1.0))
    for number in range(CASES + 2):
        image, label = tumour(generator)
        part, name = ("Tr" if number < CASES else "Ts"), f"p{number % 2}_{number}"
        write_image(raw / f"images{part}" / f"{name}_0000.nii.gz", image, geometry)
        write_label(raw / f"labels{part}" / f"{name}.nii.gz", label, geometry)
    labels = {"background": 0, **{name: list(values) for name, values in VALUES.items()}}
    description = {"channel_names": {"0": "FLAIR"}, "labels": labels, "regions_class_order": list(PAINTED)}
    write_json(raw / "dataset.json", {**description, "numTraining": CASES, "file_ending": ".nii.gz"})
    return folder


@pytest.fixture(scope="module")
def trained(called, root):
    """Two networks, of one branch and of several, on the two folds that keep patients together."""
    called("plan_and_preprocess", TASK, "--root", root, "--memory", "300MB", "--workers", "1")
    for network in ("plain_unet", "unet2p"):
        called("train", TASK, "all-folds", "--root", root, "--network", network, "--group-by", "p\\d", *TINY)
    return root


@pytest.fixture(scope="module")
def predicted(called, trained, tmp_path_factory):
    """The test images' segmentations and probabilities by each network."""
    folder = tmp_path_factory.mktemp("predicted")
    for network in ("plain_unet", "unet2p"):
        model = trained / "models" / TASK / f"3d_{network}"
        wish = ["--save-probabilities", "16", "--no-postprocessing", "--no-mirroring", *ONE]
        called("predict", "-i", trained / "raw" / TASK / "imagesTs", "-o", folder / network, "-m", model, *wish)
    return folder


def painted(probabilities, threshold=0.5):
    """What nnU-Net's rule makes of probabilities: region after region where it exceeds a half."""
    label = np.zeros(probabilities.shape[1:], int)
    for probability, value in zip(probabilities, PAINTED, strict=True):
        label[probability > threshold] = value
    return label


def test_a_model_of_regions_scores_them_and_names_them(trained):
    plan = read_json(trained / "preprocessed" / TASK / "plan.json")
    assert plan["labels"] == {"background": 0, "label_1": 1, "label_2": 2, "enhancing": 4}
    validated = read_json(trained / "models" / TASK / "3d_plain_unet" / "fold_0" / "validation.json")
    assert list(validated["labels"]) == list(VALUES)


def test_labels_are_painted_from_the_saved_probabilities(predicted):
    for network in ("plain_unet", "unet2p"):
        stored = read_probabilities(predicted / network / "p0_6.probabilities.npz")
        assert stored.regions == (
            Region("whole", (1, 2, 3), 2),
            Region("core", (1, 3), 1),
            Region("enhancing", (3,), 3),
        )
        assert stored.probabilities.shape == (3, *SHAPE)
        label = read_label(predicted / network / "p0_6.nii.gz")[0]
        is_sure = (np.abs(stored.probabilities - 0.5) > 1e-4).all(0)
        np.testing.assert_array_equal(label[is_sure], painted(stored.probabilities)[is_sure])
        assert is_sure.mean() > 0.99 and set(np.unique(label)) == {0, 1, 2, 4}


def test_what_was_learnt_is_measured_by_region(called, trained, predicted):
    references = trained / "raw" / TASK / "labelsTs"
    table = called("evaluate", "-p", predicted / "plain_unet", "-r", references, "--workers", "1")
    result = read_json(predicted / "plain_unet" / "evaluation.json")
    assert all(name in table for name in VALUES) and list(result["labels"]) == list(VALUES)
    assert result["summary"]["whole"]["mean"]["dice"] > 0.4, "after 40 steps"
    pair = [read_label(folder / "p0_6.nii.gz")[0] for folder in (predicted / "plain_unet", references)]
    for name, values in VALUES.items():
        wanted = overlap_metrics(counts_of(confusion_matrix(*pair, values), range(1, 1 + len(values))))["dice"]
        both = [np.isin(one, values) for one in pair]
        assert wanted == pytest.approx(2 * (both[0] & both[1]).sum() / (both[0].sum() + both[1].sum()))
        assert result["cases"][0]["labels"][name]["dice"] == wanted


def test_an_ensemble_averages_sigmoids_and_paints_the_mean(called, predicted, tmp_path):
    rooms = [predicted / "plain_unet", predicted / "unet2p"]
    called("ensemble", "-i", *rooms, "-o", tmp_path, "--save-probabilities", "16", "--quiet")
    mean = np.mean([read_probabilities(room / "p1_7.probabilities.npz").probabilities for room in rooms], axis=0)
    kept = read_probabilities(tmp_path / "p1_7.probabilities.npz")
    np.testing.assert_allclose(kept.probabilities, mean, atol=1e-5)
    is_sure = (np.abs(mean - 0.5) > 1e-4).all(0)
    np.testing.assert_array_equal(read_label(tmp_path / "p1_7.nii.gz")[0][is_sure], painted(mean)[is_sure])


def test_a_threshold_is_that_of_every_region(called, trained, predicted, tmp_path):
    model, images = trained / "models" / TASK / "3d_plain_unet", trained / "raw" / TASK / "imagesTs"
    wish = ["--no-postprocessing", "--no-mirroring", *ONE]
    called("predict", "-i", images, "-o", tmp_path / "one", "-m", model, "--threshold", "0.8", *wish)
    called("ensemble", "-i", predicted / "plain_unet", "-o", tmp_path / "mean", "--threshold", "0.8", "--quiet")
    probabilities = read_probabilities(predicted / "plain_unet" / "p0_6.probabilities.npz").probabilities
    is_sure = (np.abs(probabilities - 0.8) > 1e-4).all(0)
    for folder in ("one", "mean"):
        label = read_label(tmp_path / folder / "p0_6.nii.gz")[0]
        np.testing.assert_array_equal(label[is_sure], painted(probabilities, 0.8)[is_sure])


def test_the_best_of_all_is_chosen_by_the_regions_and_predicts(called, trained, tmp_path):
    said = called("find_best", TASK, "--root", trained, *ONE[:-1])
    models = trained / "models" / TASK
    figures = read_json(models / "inference.json")["figures"]
    assert len(figures["candidates"]) == 3 and "dice" in said
    single = next(one for one in figures["candidates"] if one["members"] == ["3d_plain_unet"])
    folds = [read_json(path)["cases"] for path in sorted(models.glob("3d_plain_unet/fold_*/validation.json"))]
    by_region = [[case["labels"][name]["dice"] for cases in folds for case in cases] for name in VALUES]
    assert single["untreated"] == pytest.approx(np.mean([np.mean(one) for one in by_region]), abs=2e-3), "8 bits apart"
    inference = json.loads((models / "inference.json").read_text())
    inference["members"] = [{"model": f"3d_{name}", "folds": ["0", "1"]} for name in ("plain_unet", "unet2p")]
    write_json(models / "pair.json", inference)
    images = trained / "raw" / TASK / "imagesTs"
    for name in ("inference", "pair"):
        called("predict", "-i", images, "-o", tmp_path / name, "--inference", models / f"{name}.json", *ONE)
        assert set(np.unique(read_label(tmp_path / name / "p0_6.nii.gz")[0])) <= {0, 1, 2, 4}
