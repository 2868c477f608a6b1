"""Every network of the table through msseg_train and msseg_predict, in 3D and in 2D, a step each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from msseg.checkpoint import load_checkpoint
from msseg.commands import predict, train
from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_image, write_label
from msseg.files import write_json
from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess
from msseg.training import loop
from planning.networks import NETWORKS

TASK = "Dataset009_Shells"
GEOMETRY = Geometry((16, 32, 32), (2.0, 1.0, 1.0))
# Narrow, two patches a step, one step, and a prediction that sees each tile once.
QUICK = ("base_features=4", "batch_size=2", "epochs=1", "steps_per_epoch=1", "validation_batches=1", "mirrors=none")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch) -> Iterator[None]:
    """One thread, batches made where they are needed, and no picture: each would take longer than all else here."""
    monkeypatch.setattr(loop, "_batch_workers", lambda _job: 0)
    monkeypatch.setattr(loop, "draw_curves", lambda _folder: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A root with five planned and preprocessed volumes, a bright ball with a brighter core, and one to predict."""
    folder = tmp_path_factory.mktemp("root")
    raw = folder / "raw" / TASK
    generator = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.arange(edge) for edge in GEOMETRY.shape), indexing="ij"), -1)
    for number in range(6):
        distance = np.linalg.norm((grid - generator.uniform(0.4, 0.6, 3) * GEOMETRY.shape) * (2, 1, 1), axis=-1)
        label = (distance < 10).astype(np.uint8) + (distance < 5)
        image = generator.normal(label, 0.2).astype(np.float32)
        part = "Tr" if number < 5 else "Ts"
        write_image(raw / f"images{part}" / f"shell_{number}_0000.nii.gz", image[None], GEOMETRY)
        if number < 5:
            write_label(raw / "labelsTr" / f"shell_{number}.nii.gz", label, GEOMETRY)
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "shell": 1, "core": 2}}
    write_json(raw / "dataset.json", {**description, "numTraining": 5, "file_ending": ".nii.gz"})
    plan_and_preprocess(TASK, folder, PlanningOptions(memory_bytes=2_000_000_000), workers=1)
    return folder


def train_one(root: Path, network: str, configuration: str, *words: str) -> Path:
    """Train one step; the model's folder."""
    sets = [word for value in QUICK for word in ("--set", value)]
    place = ["--root", str(root), "--configuration", configuration, "--network", network]
    before = set(root.glob("models/*/*"))
    common = ["--device", "cpu", "--workers", "1", "--quiet"]
    assert train.main([TASK, "0", *place, *sets, *common, *words]) == 0
    (model,) = set(root.glob("models/*/*")) - before
    return model


def predict_one(root: Path, model: Path, output: Path) -> np.ndarray:
    """The label map of the image to predict."""
    images = root / "raw" / TASK / "imagesTs"
    common = ["--device", "cpu", "--workers", "1", "--quiet"]
    assert predict.main(["-i", str(images), "-o", str(output), "-m", str(model), *common]) == 0
    return read_label(output / "shell_5.nii.gz")[0]


@pytest.mark.parametrize("configuration", ["3d", "2d"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_is_trained_validated_and_predicts(root, tmp_path, network, configuration):
    model = train_one(root, network, configuration)
    assert model.name == f"{configuration}_{network}"
    checkpoint = load_checkpoint(model / "fold_0" / "checkpoint_final.safetensors")
    assert checkpoint.configuration.features[0] == 4
    assert checkpoint.metadata["changed"]["base_features"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.weights.values())
    label = predict_one(root, model, tmp_path)
    assert label.shape == GEOMETRY.shape
    assert set(np.unique(label)) <= {0, 1, 2}


def test_a_pruned_depth_is_trained_alone_in_a_folder_of_its_own(root, tmp_path):
    model = train_one(root, "unet_sharp", "3d", "--network-option", "most_levels=2")
    assert model.name == "3d_unet_sharp-most_levels=2"
    checkpoint = load_checkpoint(model / "fold_0" / "checkpoint_final.safetensors")
    assert len(checkpoint.configuration.features) == 2
    heads = {name.split(".")[1] for name in checkpoint.weights if name.startswith("heads.")}
    assert heads == {"0_1", "1_0"}
    assert predict_one(root, model, tmp_path).shape == GEOMETRY.shape


# torchvision's numbers of VGG16's convolutions, with their channels, as far as two levels go.
VGG16 = {0: 64, 2: 64, 5: 128, 7: 128}


@pytest.fixture
def vgg16(tmp_path) -> Path:
    """A file of random weights by torchvision's names."""
    generator, before, weights = torch.Generator().manual_seed(0), 3, {}
    for number, channels in VGG16.items():
        weights[f"features.{number}.weight"] = torch.randn((channels, before, 3, 3), generator=generator) / 100
        weights[f"features.{number}.bias"] = torch.full((channels,), float(number))
        before = channels
    save_file(weights, tmp_path / "vgg16.safetensors")
    return tmp_path / "vgg16.safetensors"


def test_an_encoder_of_the_literature_starts_from_its_file(root, tmp_path, vgg16):
    words = ["--encoder", "vgg16", "--encoder-weights", str(vgg16), "--network-option", "most_levels=2"]
    model = train_one(root, "unet", "2d", *words, "--set", "learning_rate=0")
    assert model.name == "2d_unet-encoder=vgg16-most_levels=2"
    checkpoint = load_checkpoint(model / "fold_0" / "checkpoint_final.safetensors")
    assert checkpoint.metadata["encoder_weights"]["file"] == "vgg16.safetensors"
    biases = [tensor for name, tensor in checkpoint.weights.items() if name.endswith("convolution.bias")]
    for number, channels in VGG16.items():
        assert any(torch.equal(bias, torch.full((channels,), float(number))) for bias in biases)
    assert predict_one(root, model, tmp_path / "out").shape == GEOMETRY.shape
