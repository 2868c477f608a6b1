"""From a trained model to an ONNX file that other programs run, checked against the network it was made from."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from msseg.checkpoint import Model, load_model, trained_folds, versions
from msseg.data.store import StoredCase, open_case, stored_names
from msseg.errors import CheckpointError, DatasetError, MssegError, ResourceError
from msseg.files import atomic_path
from msseg.inference.answers import answering, is_guided
from msseg.inference.sliding_window import pad_to_patch
from msseg.mirroring import with_neighbours
from msseg.pipeline.pruning import task_of
from msseg.planes import with_planes
from planning.plan import Configuration, Plan, plan_to_json

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

# The first opset whose GridSample and resizing know volumes.
OPSET = 20
# Largest difference to the network's logits, absolute where these stay below 1, else relative to the largest.
TOLERANCE = 1e-4
IMAGE, LOGITS, PRESENCE = "image", "logits", "presence"

_LARGEST_FILE_BYTES = 2**31 - 1  # of a protocol buffer
_EXTRA = "msseg[onnx]"
_RANDOM_BATCH = 3  # another than the one that was traced with


@dataclass(frozen=True)
class ExportReport:
    """The file, and by kind of input how far its outputs are from the network's, on the scale of `TOLERANCE`."""

    path: Path
    fold: str
    branches: str
    opset: int
    errors: dict[str, float]

    def summary(self) -> str:
        """Lines for the end of the command."""
        checked = ", ".join(f"{error:.1e} on {kind} input" for kind, error in self.errors.items())
        return f"{self.path}: fold {self.fold}, {self.branches}, opset {self.opset}. Largest error: {checked}."


def export_onnx(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    fold: int | str | None = None,
    branches: str = "accurate",
    task: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> ExportReport:
    """Write the network of one fold (default: the first trained) as ONNX: full-resolution logits of one patch.

    Its input `image` is (b, c, *patch), preprocessed, float32, b free; its outputs are `logits` (b, k, *patch) and, of
    a guided network, the probabilities `presence` (b, k - 1). The file's metadata says how to preprocess.

    Before it is put in place it is run beside the network on noise and, where the model's task (or `task`) is
    preprocessed, on a real patch. Raises ResourceError where the extra is not installed, CheckpointError where the
    model cannot be read, MssegError where the two differ by more than `TOLERANCE`.
    """
    _require_extra()
    trained = _load_fold(Path(model), fold)
    network = trained.networks[0]
    inputs = {"random": _noise(trained), **_real_input(Path(model), trained, task, root)}
    module = _Answer(network, branches, bool(trained.plan.regions)).eval()
    with atomic_path(Path(output)) as temporary:
        program = _traced(module, inputs["random"][:2])
        program.model.metadata_props.update(metadata(trained, branches))
        program.save(temporary)
        errors = {kind: _difference(temporary, module, one) for kind, one in inputs.items()}
        _check(Path(output), errors)
    return ExportReport(Path(output), trained.folds[0], branches, OPSET, errors)


def metadata(model: Model, branches: str) -> dict[str, str]:
    """What a program has to know to use the network's input and output: by name, each a JSON value."""
    plan, configuration = model.plan, model.configuration
    values = {
        "network": configuration.network,
        "dimensions": configuration.dimensions,
        "spacing_mm": configuration.spacing_mm,
        "axis_order": plan.axis_order,
        "patch_size": configuration.patch_size,
        "normalisation": [asdict(channel) for channel in plan.channels],
        "labels": plan.labels,
        "classes": list(plan.labels),
        **({"regions": [asdict(region) for region in plan.regions]} if plan.regions else {}),
        "mirror_axes": configuration.mirror_axes,
        "neighbour_slices": configuration.neighbour_slices,
        **(_previous_words(plan, configuration) if configuration.previous_stage is not None else {}),
        "image_padding": configuration.image_padding,
        "branches": branches,
        "fold": model.folds[0],
        "versions": versions(),
        "plan": plan_to_json(plan),
    }
    return {name: json.dumps(value, allow_nan=False) for name, value in values.items()}


def _previous_words(plan: Plan, configuration: Configuration) -> dict[str, Any]:
    """What the channels after the image's are: for each the class indices of the previous stage where it is 1."""
    stage = {
        "configuration": configuration.previous_stage,
        "planes": plan.planes,
        "label_order": configuration.label_order,
    }
    return {"previous_stage": stage}


class _Answer(nn.Module):
    """A network as a module that answers with its full-resolution logits and, where it is guided, with presence."""

    def __init__(self, network: nn.Module, branches: str, regions: bool = False):
        super().__init__()
        self.network = network
        self.outputs = (LOGITS, PRESENCE) if is_guided(network) else (LOGITS,)
        self._answer = answering(network, branches, regions=regions)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(one for one in self._answer(image) if one is not None)


def _require_extra() -> None:
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as problem:
        raise ResourceError(
            f"ONNX export needs {problem.name}, which is not installed. Install the extra: pip install '{_EXTRA}'"
        ) from None
    del onnx, onnxruntime, onnxscript


def _load_fold(folder: Path, fold: int | str | None) -> Model:
    """The model with one network, refused where its weights alone are more than such a file can hold."""
    known = trained_folds(folder)
    if not known:
        raise CheckpointError(f"{folder}: no trained fold. Give a model folder, as msseg_train leaves it.")
    model = load_model(folder, [known[0] if fold is None else str(fold)])
    size = sum(tensor.nbytes for tensor in model.networks[0].state_dict().values())
    if size > _LARGEST_FILE_BYTES:
        raise ResourceError(f"{folder}: {size / 1e9:.1f} GB of weights; an ONNX file holds 2 GB. Train a smaller one.")
    return model


def _noise(model: Model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    channels = model.configuration.input_channels(len(model.plan.channels))
    return torch.randn(_RANDOM_BATCH, channels, *model.configuration.patch_size, generator=generator)


def _real_input(
    folder: Path, model: Model, task: str | None, root: str | os.PathLike[str] | None
) -> dict[str, torch.Tensor]:
    """A patch around the middle of the task's first preprocessed case, by kind; none where no case is to be found."""
    try:
        store = task_of(folder, task, root).store(model.configuration.name)
    except DatasetError:
        if task is not None:
            raise
        return {}
    names = stored_names(store)
    return {"real": _real_patch(open_case(store, names[0]), model)} if names else {}


def _real_patch(case: StoredCase, model: Model) -> torch.Tensor:
    """The middle of a case; for a cascade with its label in place of what the previous stage would find."""
    image = _middle_patch(case.image, model.configuration)
    if model.configuration.previous_stage is None or case.label is None:
        return image
    classes = _middle_patch(case.label[None], model.configuration)
    return torch.from_numpy(with_planes(image[0].numpy(), classes[0, 0].numpy(), model.plan.planes))[None]


def _middle_patch(image_czyx: np.ndarray, configuration: Configuration) -> torch.Tensor:
    patch = (1,) * (3 - configuration.dimensions) + configuration.patch_size
    padded, _ = pad_to_patch(image_czyx, patch, configuration.image_padding)
    if configuration.neighbour_slices:
        padded = with_neighbours(padded, configuration.neighbour_slices)
    corners = [(length - size) // 2 for length, size in zip(padded.shape[1:], patch, strict=True)]
    box = tuple(slice(low, low + size) for low, size in zip(corners, patch, strict=True))
    everything = (slice(None), *box)
    middle = torch.from_numpy(padded[everything].copy())[None]
    return middle[:, :, 0] if configuration.dimensions == 2 else middle


def _traced(module: _Answer, example: torch.Tensor) -> ONNXProgram:
    with _exporter_silenced(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[IMAGE],
            output_names=list(module.outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    if program is None:
        raise AssertionError("the exporter gave no program")
    return program


@contextlib.contextmanager
def _exporter_silenced() -> Iterator[None]:
    """Without its notes on optional packages and on its own deprecations, which no user can act on."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _difference(path: Path, module: _Answer, image: torch.Tensor) -> float:
    """The largest difference between the file's outputs and the network's, relative to the largest where above 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(list(module.outputs), {IMAGE: image.numpy()})
    with torch.inference_mode():
        wanted = [one.numpy() for one in module(image)]
    return max(_relative(path, *pair) for pair in zip(found, wanted, strict=True))


def _relative(path: Path, found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape:
        raise MssegError(f"{path}: the exported network answers {found.shape}, expected {wanted.shape}.")
    return float(np.abs(found - wanted).max() / max(1.0, float(np.abs(wanted).max())))


def _check(path: Path, errors: dict[str, float]) -> None:
    for kind, error in errors.items():
        if not error <= TOLERANCE:
            raise MssegError(
                f"{path}: on {kind} input the exported outputs differ by {error:.1e} from the network's, expected at "
                f"most {TOLERANCE:.0e}. No file was written; try other versions of torch and onnxruntime."
            )
