from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.checkpoint import FINAL, Checkpoint, load_model, save_checkpoint
from msseg.commands.export import main
from msseg.data.store import write_case
from msseg.errors import MssegError, ResourceError
from msseg.inference.answers import answering
from msseg.networks import build_network
from msseg.pipeline import export
from msseg.pipeline.export import export_onnx
from msseg.previous_model import PreviousModel
from planning.network_row import NetworkRow
from planning.networks import NETWORKS, network_row
from planning.plan import Configuration, Plan
from planning.weights import uniform_weights

TASK = "Task05_Boxes"


@pytest.fixture(autouse=True, scope="module")
def translations_read_once() -> Iterator[None]:
    """PyTorch reads its table of translations from source for each export, a third of the time; here it is kept.

    The place is private: where another version has it elsewhere, exports only take longer.
    """
    with pytest.MonkeyPatch.context() as patch:
        try:
            registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
            patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        except (ImportError, AttributeError):
            pass
        yield


@pytest.fixture
def make_model(
    tmp_path: Path, make_configuration: Callable[..., Configuration], make_plan: Callable[..., Plan]
) -> Callable[..., Path]:
    """Makes a model folder with one narrow network of three levels in fold 0, as training would leave it."""

    def make(network: str, dimensions: int, **options: object) -> Path:
        row = network_row(network, options)
        configuration = make_configuration(
            (8,) * dimensions,
            network=network,
            features=(4, 6, 8),
            strides=((1,) + (2,) * (dimensions - 1), (2,) * dimensions),
            kernel_sizes=((1,) + (3,) * (dimensions - 1), *((3,) * dimensions,) * 2),
            encoder_convolutions=(1, 1, 1),
            decoder_convolutions=(1, 1),
            supervision_weights=uniform_weights(len(row.supervised(3))),
            network_options=options,
        )
        weights = build_network(configuration, 1, 2, torch.Generator().manual_seed(1)).state_dict()
        folder = tmp_path / "models" / TASK / f"{configuration.name}_{network}"
        save_checkpoint(folder / "fold_0" / FINAL, Checkpoint(weights, make_plan(configuration), configuration.name))
        return folder

    return make


def structure(row: NetworkRow) -> str:
    """What remains of a row when networks are the same but for their widths and their scale of memory."""
    widths = {"base_features": 1, "feature_cap": {}, "reference_voxels": None, "reference_memory_bytes": 1}
    return repr(replace(row, name="", title="", year=0, source="", **widths))


# An export takes seconds: one network of each structure, in 2D or in 3D by turns.
STRUCTURES = {structure(row): name for name, row in NETWORKS.items()}
EVERY_STRUCTURE = [(name, 2 + number % 2) for number, name in enumerate(STRUCTURES.values())]


@pytest.mark.parametrize(("name", "dimensions"), EVERY_STRUCTURE)
def test_every_network_answers_the_same_in_onnxruntime(
    name: str, dimensions: int, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    _skip_without_extra()
    report = export_onnx(make_model(name, dimensions), tmp_path / "network.onnx")
    assert report.errors["random"] <= 1e-4
    assert report.path.stat().st_size > 1000


def test_a_guided_network_answers_with_the_presence_of_each_class_too(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    _skip_without_extra()
    import onnxruntime

    report = export_onnx(make_model("unet", 3, guidance="branches"), tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(str(report.path), providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape[1:]) for one in session.get_outputs()][1] == ("presence", [1])


def test_another_program_finds_all_it_needs_in_the_file(make_model: Callable[..., Path], tmp_path: Path) -> None:
    _skip_without_extra()
    import onnxruntime

    folder, path = make_model("unet2p", 2), tmp_path / "network.onnx"
    assert main([str(folder), "-o", str(path), "--mode", "fast", "-q"]) == 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape[1:], logits.name, logits.shape[1:]) == ("image", [1, 8, 8], "logits", [2, 8, 8])
    assert isinstance(image.shape[0], str)  # a free batch has a name
    said = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert said["spacing_mm"] == [1.0, 1.0]
    assert said["axis_order"] == [0, 1, 2]
    assert said["patch_size"] == [8, 8]
    assert said["normalisation"][0]["normalisation"] == "zscore"
    assert said["labels"] == {"background": 0, "one": 7}
    assert (said["classes"], said["branches"], said["fold"]) == (["background", "one"], "fast", "0")
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = answering(load_model(folder).networks[0], "fast")(x).logits
    np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], wanted, atol=1e-5)


def test_the_file_is_tried_on_a_real_patch_where_the_task_is_prepared(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    _skip_without_extra()
    image = np.random.default_rng(0).normal(size=(1, 3, 6, 20)).astype(np.float32)
    write_case(tmp_path / f"preprocessed/{TASK}/cases_2d", "box_0", image, None, {}, {}, key="1")
    report = export_onnx(make_model("unet", 2), tmp_path / "network.onnx")
    assert set(report.errors) == {"random", "real"}
    assert "on real input" in report.summary()


def test_a_file_that_answers_otherwise_is_not_put_in_place(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _skip_without_extra()
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(MssegError, match="on random input the exported outputs differ by"):
        export_onnx(make_model("unet", 2), tmp_path / "out" / "network.onnx")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_extra_it_is_said_how_to_install_it(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ResourceError, match=r"needs onnx, which is not installed.*pip install 'msseg\[onnx\]'"):
        export_onnx(make_model("unet", 2), tmp_path / "network.onnx")


def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _skip_without_extra()
    assert main([str(tmp_path), "-o", str(tmp_path / "network.onnx")]) == 1
    assert "no trained fold" in capsys.readouterr().err


def _skip_without_extra() -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)


def test_a_cascade_names_the_channels_after_the_images(
    tmp_path: Path, make_configuration: Callable[..., Configuration], make_plan: Callable[..., Plan]
) -> None:
    _skip_without_extra()
    low = make_configuration(name="3d_lowres")
    full = make_configuration(name="3d_cascade", previous_stage="3d_lowres", previous_classes=1)
    plan = make_plan(low, configurations={"3d_lowres": low, "3d_cascade": full})
    weights = build_network(full, 1, 2, torch.Generator().manual_seed(1)).state_dict()
    folder = tmp_path / "models" / TASK / "3d_cascade_plain_unet"
    previous = PreviousModel("../3d_lowres_plain_unet", ("0",))
    save_checkpoint(folder / "fold_0" / FINAL, Checkpoint(weights, plan, "3d_cascade", previous=previous))
    image = np.random.default_rng(0).normal(size=(1, 9, 9, 9)).astype(np.float32)
    label = np.pad(np.ones((5, 5, 5), np.uint8), 2)
    write_case(tmp_path / f"preprocessed/{TASK}/cases_3d", "box_0", image, label, {}, {}, key="1")
    report = export_onnx(folder, tmp_path / "network.onnx")
    assert set(report.errors) == {"random", "real"}
    import onnxruntime

    session = onnxruntime.InferenceSession(str(report.path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [2, 8, 8, 8]
    said = json.loads(session.get_modelmeta().custom_metadata_map["previous_stage"])
    assert said == {"configuration": "3d_lowres", "planes": [[1]], "label_order": 1}
