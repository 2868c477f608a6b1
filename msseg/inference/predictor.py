"""A trained model that stays loaded: arrays in, label maps out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msseg.checkpoint import Model, load_model
from msseg.data.labels import LabelMap
from msseg.errors import CheckpointError, DatasetError
from msseg.inference.export import LabelStream, in_file_order, resampled_labels, uncropped
from msseg.inference.memory import case_bytes, free_bytes
from msseg.inference.mirrors import Mirror
from msseg.inference.passes import Passes
from msseg.inference.placement import Placement, first_that_fits, placements, score_type
from msseg.inference.sliding_window import batch_limit, make_window, predict_logits
from msseg.inference.streaming import OnBatch, Window, score_slabs
from msseg.networks.allocation import keep_freed_memory
from msseg.postprocessing.rules import Rule, apply_rules, read_rules
from msseg.preprocessing.case import PreparedCase, preprocess_case
from msseg.preprocessing.resample import separate_axis

RULES_FILE = "postprocessing.json"


@dataclass(frozen=True)
class PredictionOptions:
    """How an image is shown to the networks and which of their branches answer; see `predict_logits`.

    `max_bytes` bounds what scores, slabs and labels of one case may take, None: by the free memory.
    """

    mirror: Mirror = True
    step: float = 0.5
    noise_repeats: int = 0
    noise_std: float = 0.01
    seed: int = 0
    branches: str = "accurate"
    guidance: bool = True
    max_bytes: int | None = None

    def as_record(self) -> dict[str, Any]:
        """What of the options a segmentation depends on."""
        return {name: value for name, value in asdict(self).items() if name != "max_bytes"}


@dataclass(frozen=True)
class Predictor:
    """A model on its device, ready for any number of images.

    `predict_array` is the whole way; `prepare`, `classes` and `finish` are its three parts, which may run in threads
    of their own for different images. Only `classes` uses the networks and the device.
    """

    model: Model
    device: torch.device
    options: PredictionOptions = PredictionOptions()
    rules: Sequence[Rule] = ()

    def predict_array(self, image_czyx: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """The label map (z, y, x) of an image (c, z, y, x), in the values of the data set's labels.

        `spacing_mm` is (z, y, x). Raises DatasetError at a wrong number of channels or values that are not finite.
        """
        return self.segment(self.prepare(image_czyx, spacing_mm))

    def prepare(self, image_czyx: np.ndarray, spacing_mm: Sequence[float], overwrite: bool = False) -> PreparedCase:
        """The image as the networks see it, and the way back. Raises DatasetError as `predict_array` does.

        With `overwrite`, a float32 image is worked on in its own memory.
        """
        channels = [channel.name for channel in self.model.plan.channels]
        _check_image(image_czyx, channels)
        plan, configuration = self.model.plan, self.model.configuration
        return preprocess_case(image_czyx, None, spacing_mm, plan, configuration, overwrite=overwrite)

    def segment(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> np.ndarray:
        """The label map on the image's own grid; `on_batch(done, total)` counts forward passes.

        Scores are held for one row of tiles and labelled as soon as they are final. Raises CheckpointError where they
        are not finite, ResourceError where memory, or the options' `max_bytes`, does not hold them.
        """
        return self.finish(self.classes(prepared, on_batch), prepared)

    def classes(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> np.ndarray:
        """Class indices (z, y, x) on the grid between crop and resampling; see `segment`.

        A voxel that goes to a class which guidance has seen nowhere in the image becomes background.
        """
        window = make_window(
            prepared.image,
            self.model.configuration,
            len(self.model.plan.labels),
            self._passes,
            mirror=self.options.mirror,
            step=self.options.step,
            noise_repeats=self.options.noise_repeats,
            noise_std=self.options.noise_std,
            seed=self.options.seed,
        )
        batch_size = batch_limit(self.device, window.patch)
        new_shape = prepared.shape_after_crop
        needs = partial(case_bytes, window.num_classes, window.shape, window.patch, new_shape, batch_size)
        dtype = score_type(needs, self.options.max_bytes, self._free_bytes)
        ways = placements(self.device, batch_size, dtype)
        return first_that_fits(
            ways, lambda placement: self._labelled(window, prepared, placement, on_batch), self._passes.forget
        )

    def score(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> torch.Tensor:
        """The mean logits (k, z, y, x) on the prepared grid, all at once; `on_batch` as in `segment`."""
        model, options = self.model, self.options.as_record()
        num_classes = len(model.plan.labels)
        return predict_logits(
            model.networks, prepared.image, model.configuration, num_classes, self.device, on_batch=on_batch, **options
        )

    def label(self, logits: torch.Tensor, prepared: PreparedCase) -> np.ndarray:
        """The label map of whole logits on the image's own grid. Raises CheckpointError where they are not finite."""
        _check_finite(logits)
        apart = separate_axis(prepared.spacing_mm, prepared.spacing_before_mm)
        order = self.model.configuration.score_order
        return self.finish(resampled_labels(logits, prepared.shape_after_crop, order, apart), prepared)

    def finish(self, classes: np.ndarray, prepared: PreparedCase) -> np.ndarray:
        """The label map on the image's own grid from class indices on the cropped one, after the postprocessing."""
        whole = uncropped(classes, prepared.crop_box, prepared.shape_before_crop)
        index = apply_rules(in_file_order(whole, prepared.axis_order), self.rules)
        return LabelMap(tuple(self.model.plan.labels.values())).to_values(index)

    @cached_property
    def _free_bytes(self) -> int | None:
        """The memory that was free before the first case: later the process keeps what earlier cases have freed."""
        return free_bytes() if self.device.type == "cpu" else None

    @cached_property
    def _passes(self) -> Passes:
        return Passes(self.model.networks, self.options.branches, self.options.guidance)

    def _labelled(
        self, window: Window, prepared: PreparedCase, placement: Placement, on_batch: OnBatch | None
    ) -> np.ndarray:
        """The class indices, computed as `placement` says."""
        apart = separate_axis(prepared.spacing_mm, prepared.spacing_before_mm)
        order, new_shape = self.model.configuration.score_order, prepared.shape_after_crop
        seen_classes = torch.zeros(window.num_classes - 1, dtype=torch.bool) if self._passes.guided else None
        stream = LabelStream(window.num_classes, window.shape, new_shape, order, apart, window.axis)
        with self._passes.session(placement.device):
            for slab in score_slabs(window, self._passes.on(placement.device), placement, seen_classes, on_batch):
                _check_finite(slab)
                stream.push(slab)
        labels = stream.labels()
        return labels if seen_classes is None else only_seen(labels, seen_classes)


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


def only_seen(labels: np.ndarray, seen_classes: torch.Tensor) -> np.ndarray:
    """The class indices with background in place of foreground classes that are not seen (k - 1, bool)."""
    kept = np.concatenate(([True], seen_classes.numpy()))
    return labels if kept.all() else np.where(kept, np.arange(len(kept)), 0).astype(labels.dtype)[labels]


def _check_finite(logits: torch.Tensor) -> None:
    # Class by class: of a slab, which is a view, torch would make a copy first.
    if not all(torch.isfinite(end) for scores in logits for end in torch.aminmax(scores)):
        raise CheckpointError(
            "the networks' scores are not finite; expected numbers. The training has diverged, or the image's "
            "values lie far outside those of the training cases: look at both."
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
