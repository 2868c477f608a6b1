"""A trained model that stays loaded: arrays in, label maps out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from msseg.checkpoint import Model, load_model
from msseg.data.labels import LabelMap
from msseg.errors import CheckpointError, DatasetError
from msseg.inference.export import in_file_order, resampled_labels, uncropped
from msseg.inference.sliding_window import predict_logits
from msseg.networks.allocation import keep_freed_memory
from msseg.postprocessing.rules import Rule, apply_rules, read_rules
from msseg.preprocessing.case import PreparedCase, preprocess_case
from msseg.preprocessing.resample import separate_axis

RULES_FILE = "postprocessing.json"


@dataclass(frozen=True)
class PredictionOptions:
    """How an image is shown to the networks and which of their branches answer; see `predict_logits`."""

    mirror: bool = True
    step: float = 0.5
    noise_repeats: int = 0
    noise_std: float = 0.01
    seed: int = 0
    branches: str = "accurate"
    guidance: bool = True


@dataclass(frozen=True)
class Predictor:
    """A model on its device, ready for any number of images.

    `predict_array` is the whole way; `prepare`, `score` and `label` are its three parts, which may run in threads of
    their own for different images. Only `score` uses the networks and the device.
    """

    model: Model
    device: torch.device
    options: PredictionOptions = PredictionOptions()
    rules: Sequence[Rule] = ()

    def predict_array(self, image_czyx: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """The label map (z, y, x) of an image (c, z, y, x), in the values of the data set's labels.

        `spacing_mm` is (z, y, x). Raises DatasetError at a wrong number of channels or values that are not finite.
        """
        prepared = self.prepare(image_czyx, spacing_mm)
        return self.label(self.score(prepared), prepared)

    def prepare(self, image_czyx: np.ndarray, spacing_mm: Sequence[float]) -> PreparedCase:
        """The image as the networks see it, and the way back. Raises DatasetError as `predict_array` does."""
        channels = [channel.name for channel in self.model.plan.channels]
        _check_image(image_czyx, channels)
        return preprocess_case(image_czyx, None, spacing_mm, self.model.plan, self.model.configuration)

    def score(self, prepared: PreparedCase, on_batch: Callable[[int, int], None] | None = None) -> torch.Tensor:
        """The mean logits (k, z, y, x) on the prepared grid; `on_batch(done, total)` counts forward passes."""
        return predict_logits(
            self.model.networks,
            prepared.image,
            self.model.configuration,
            len(self.model.plan.labels),
            self.device,
            mirror=self.options.mirror,
            step=self.options.step,
            noise_repeats=self.options.noise_repeats,
            noise_std=self.options.noise_std,
            seed=self.options.seed,
            branches=self.options.branches,
            guidance=self.options.guidance,
            on_batch=on_batch,
        )

    def label(self, logits: torch.Tensor, prepared: PreparedCase) -> np.ndarray:
        """The label map of the logits on the image's own grid, after the model's postprocessing.

        Raises CheckpointError where the logits are not finite.
        """
        if not all(torch.isfinite(end) for end in torch.aminmax(logits)):  # no copy, as isfinite of all would make
            raise CheckpointError(
                "the networks' scores are not finite; expected numbers. The training has diverged, or the image's "
                "values lie far outside those of the training cases: look at both."
            )
        apart = separate_axis(prepared.spacing_mm, prepared.spacing_before_mm)
        order = self.model.configuration.score_order
        cropped = resampled_labels(logits, prepared.shape_after_crop, order, apart)
        whole = uncropped(cropped, prepared.crop_box, prepared.shape_before_crop)
        index = apply_rules(in_file_order(whole, prepared.axis_order), self.rules)
        return LabelMap(tuple(self.model.plan.labels.values())).to_values(index)


def load_predictor(
    model_dir: Path,
    device: torch.device,
    folds: Sequence[str] | None = None,
    options: PredictionOptions | None = None,
    postprocess: bool = True,
) -> Predictor:
    """The predictor of a model folder: the networks of `folds` (default: all) and its postprocessing, if wanted.

    On a CPU the process is told to keep freed memory, see `keep_freed_memory`. Raises CheckpointError where the folder
    holds no such model.
    """
    if device.type == "cpu":
        keep_freed_memory()
    rules_path = Path(model_dir) / RULES_FILE
    return Predictor(
        model=load_model(model_dir, folds, device),
        device=device,
        options=options or PredictionOptions(),
        rules=read_rules(rules_path) if postprocess and rules_path.exists() else (),
    )


def _check_image(image_czyx: np.ndarray, channels: list[str]) -> None:
    if image_czyx.ndim != 4 or image_czyx.size == 0:
        raise DatasetError(f"the image has shape {image_czyx.shape}; expected (channels, z, y, x), none of them 0.")
    if len(image_czyx) != len(channels):
        raise DatasetError(
            f"the image has {len(image_czyx)} channels; the model expects {len(channels)}: {', '.join(channels)}. "
            "Give the channels that it was trained with, in this order."
        )
    if not np.isfinite(image_czyx).all():
        raise DatasetError("the image holds values that are not finite; expected numbers. Export the image again.")
