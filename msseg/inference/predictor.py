"""A trained model that stays loaded: arrays in, label maps out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msseg.checkpoint import Model, load_model
from msseg.data.labels import LabelMap
from msseg.errors import CheckpointError, DatasetError
from msseg.files import read_json
from msseg.inference.export import in_file_order, uncropped
from msseg.inference.memory import case_bytes, free_bytes
from msseg.inference.mirrors import Mirror
from msseg.inference.passes import Passes
from msseg.inference.placement import Placement, first_that_fits, placements, score_type
from msseg.inference.prediction import CaseCollectors, Keep, Prediction, has_one_foreground
from msseg.inference.previous import Previous
from msseg.inference.score_stream import ScoreStream
from msseg.inference.sliding_window import batch_limit, make_window, predict_logits
from msseg.inference.streaming import OnBatch, Window, score_slabs
from msseg.instances.decision import Decision, decision_from_json
from msseg.networks.allocation import keep_freed_memory
from msseg.postprocessing.rules import Rule, apply_rules, read_rules
from msseg.preprocessing.case import PreparedCase, preprocess_case
from msseg.preprocessing.resample import resample_label, separate_axis
from planning.label_pairs import sides_of
from planning.plan import Plan

RULES_FILE = "postprocessing.json"
DECISION_FILE = "decision.json"


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

    `predict_array` is the whole way; `prepare`, `predict` and `finish` are its three parts, which may run in threads
    of their own for different images. Only `predict` uses the networks and the device. `decision` holds the thresholds
    of a model of one foreground, or the one of all regions; None: ½, which of two classes takes the larger score.
    `previous` is the first predictor of a cascade, whose segmentation the networks are shown beside the image.
    """

    model: Model
    device: torch.device
    options: PredictionOptions = PredictionOptions()
    rules: Sequence[Rule] = ()
    decision: Decision | None = None
    previous: Predictor | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the model, and of the one before it in a cascade."""
        before = () if self.previous is None else self.previous.notes
        return (*(f"the model before it: {note}" for note in before if note not in self.model.notes), *self.model.notes)

    def with_options(self, options: PredictionOptions) -> Predictor:
        """The same predictor, through all networks of a cascade, with other options."""
        before = None if self.previous is None else self.previous.with_options(options)
        return replace(self, options=options, previous=before)

    def predict_array(self, image_czyx: np.ndarray, spacing_mm: Sequence[float] | None) -> np.ndarray:
        """The label map (z, y, x) of an image (c, z, y, x), in the values of the data set's labels.

        `spacing_mm` is (z, y, x), None of an image that is as fine as the training images. Raises DatasetError at a
        wrong number of channels or values that are not finite.
        """
        return self.segment(self.prepare(image_czyx, spacing_mm))

    def prepare(
        self, image_czyx: np.ndarray, spacing_mm: Sequence[float] | None, overwrite: bool = False
    ) -> PreparedCase:
        """The image as the networks see it, and the way back. Raises DatasetError as `predict_array` does.

        With `overwrite`, a float32 image is worked on in its own memory.
        """
        channels = [channel.name for channel in self.model.plan.channels]
        _check_image(image_czyx, channels)
        plan, configuration = self.model.plan, self.model.configuration
        before = None if self.previous is None else self.previous.prepare(image_czyx, spacing_mm)
        prepared = preprocess_case(image_czyx, None, spacing_mm, plan, configuration, overwrite=overwrite)
        return prepared if before is None else replace(prepared, previous=before)

    def segment(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> np.ndarray:
        """The label map on the image's own grid; `on_batch(done, total)` counts forward passes.

        Scores are held for one row of tiles and labelled as soon as they are final. Raises CheckpointError where they
        are not finite, ResourceError where memory, or the options' `max_bytes`, does not hold them.
        """
        return self.finish(self.classes(prepared, on_batch), prepared)

    def classes(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> np.ndarray:
        """Class indices (z, y, x) on the grid between crop and resampling; see `segment` and `Prediction`."""
        return self.predict(prepared, on_batch).classes

    def probabilities(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> np.ndarray:
        """Probabilities (k, z, y, x), float32, on the image's own grid; outside the crop it is all background.

        The softmax of the interpolated scores, of regions the sigmoid of each, before decision and postprocessing.
        Raises as `segment` does.
        """
        found = self.predict(prepared, on_batch, Keep(probabilities=True)).probabilities
        assert found is not None
        return found

    def predict(
        self,
        prepared: PreparedCase,
        on_batch: OnBatch | None = None,
        keep: Keep = Keep(),  # noqa: B008 (frozen)
    ) -> Prediction:
        """The classes, and what else is to be kept; raises as `segment` does.

        A voxel that goes to a class which guidance has seen nowhere in the image becomes background.
        """
        free = self._free_bytes  # as it was before a first network took what it keeps
        window = make_window(
            prepared.image,
            self.model.configuration,
            self.model.plan.outputs,
            self._passes,
            mirror=self.options.mirror,
            step=self.options.step,
            noise_repeats=self.options.noise_repeats,
            noise_std=self.options.noise_std,
            seed=self.options.seed,
            sides=sides_of(self.model.plan, self.model.configuration),
            previous=self._previous_answer(prepared, on_batch),
        )
        batch_size, kept_bytes = batch_limit(self.device, window.patch), keep.bytes_for(window.num_classes, prepared)
        shapes = window.shape, window.patch, prepared.shape_after_crop
        needs = partial(case_bytes, window.num_classes, *shapes, batch_size, kept_bytes=kept_bytes)
        dtype = score_type(needs, self.options.max_bytes, free)
        ways = placements(self.device, batch_size, dtype)
        return first_that_fits(
            ways, lambda placement: self._predicted(window, prepared, placement, on_batch, keep), self._forget
        )

    def score(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> torch.Tensor:
        """The mean logits (k, z, y, x) on the prepared grid, all at once; `on_batch` as in `segment`."""
        model, options = self.model, self.options.as_record()
        return predict_logits(
            model.networks,
            prepared.image,
            model.configuration,
            model.plan.outputs,
            self.device,
            regions=bool(model.plan.regions),
            sides=sides_of(model.plan, model.configuration),
            previous=self._previous_answer(prepared),
            on_batch=on_batch,
            **options,
        )

    def label(self, logits: torch.Tensor, prepared: PreparedCase) -> np.ndarray:
        """The label map of whole logits on the image's own grid. Raises CheckpointError where they are not finite."""
        _check_finite(logits)
        kept = self._collectors(prepared, 0, Keep())
        with torch.inference_mode():
            self._stream(kept, logits.shape[1:], prepared, 0).push(logits)
        return self.finish(kept.prediction().classes, prepared)

    def finish(self, classes: np.ndarray, prepared: PreparedCase) -> np.ndarray:
        """The label map on the image's own grid from class indices on the cropped one, after the postprocessing."""
        spacing_mm = [mm for _, mm in sorted(zip(prepared.axis_order, prepared.spacing_before_mm, strict=True))]
        return self.label_map.to_values(apply_rules(whole_grid(classes, prepared), self.rules, spacing_mm))

    @property
    def label_map(self) -> LabelMap:
        """Between the class indices of a prediction and the values of label maps."""
        plan = self.model.plan
        values = plan.labels.values() if plan.instances is None else (0, plan.instances.value)
        return LabelMap(tuple(values))

    @cached_property
    def _free_bytes(self) -> int | None:
        """The memory that was free before the first case: later the process keeps what earlier cases have freed."""
        return free_bytes() if self.device.type == "cpu" else None

    @cached_property
    def _passes(self) -> Passes:
        regions = bool(self.model.plan.regions)
        return Passes(self.model.networks, self.options.branches, self.options.guidance, regions)

    def _previous_answer(self, prepared: PreparedCase, on_batch: OnBatch | None = None) -> Previous | None:
        """What the first network of a cascade finds, on the grid of the prepared image; None where there is none."""
        plan, configuration = self.model.plan, self.model.configuration
        if configuration.previous_stage is None:
            return None
        if self.previous is None or prepared.previous is None:
            raise CheckpointError(
                f"{configuration.name}: sees {configuration.previous_stage} too, which is not loaded."
            )
        classes = self.previous.predict(prepared.previous, on_batch).classes
        apart = separate_axis(prepared.spacing_before_mm, configuration.spacing_mm)
        found = resample_label(classes, prepared.image.shape[1:], configuration.label_order, apart)
        return Previous(found, plan.planes, sides_of(plan, configuration))

    def _forget(self) -> None:
        """Give up what was prepared for a device, and its memory."""
        self._passes.forget()
        if self.previous is not None:
            self.previous._forget()

    def _predicted(
        self, window: Window, prepared: PreparedCase, placement: Placement, on_batch: OnBatch | None, keep: Keep
    ) -> Prediction:
        """The prediction, computed as `placement` says."""
        seen_classes = torch.zeros(window.num_classes - 1, dtype=torch.bool) if self._passes.guided else None
        kept = self._collectors(prepared, window.axis, keep)
        stream = self._stream(kept, window.shape, prepared, window.axis)
        with self._passes.session(placement.device):
            for slab in score_slabs(window, self._passes.on(placement.device), placement, seen_classes, on_batch):
                _check_finite(slab)
                stream.push(slab)
        assert stream.is_done
        return kept.prediction(seen_classes)

    def _collectors(self, prepared: PreparedCase, axis: int, keep: Keep) -> CaseCollectors:
        threshold = None if self.decision is None else self.decision.foreground
        return CaseCollectors(self.model.plan, prepared, axis, threshold, keep)

    def _stream(self, kept: CaseCollectors, shape: Sequence[int], prepared: PreparedCase, axis: int) -> ScoreStream:
        apart = separate_axis(prepared.spacing_mm, prepared.spacing_before_mm)
        order, new_shape = self.model.configuration.score_order, prepared.shape_after_crop
        return ScoreStream(kept.collectors, shape, new_shape, order, apart, axis)


def load_predictor(
    model_dir: Path,
    device: torch.device,
    folds: Sequence[str] | None = None,
    options: PredictionOptions | None = None,
    postprocess: bool = True,
    decide: bool = True,
    out_of_fold: bool = False,
) -> Predictor:
    """The predictor of a model folder: the networks of `folds` (default: all), its postprocessing and its decision.

    The latter two are left out where `postprocess` or `decide` say so. Of a cascade the model before it is loaded too;
    it answers with all folds that the cascade was trained with, or, where predictions are to be `out_of_fold`, with the
    same folds, which must have left out the same cases.

    On a CPU the process is told to keep freed memory, see `keep_freed_memory`. Raises CheckpointError where the folder
    holds no such model.
    """
    if device.type == "cpu":
        keep_freed_memory()
    rules_path, decision_path = Path(model_dir) / RULES_FILE, Path(model_dir) / DECISION_FILE
    model = load_model(model_dir, folds, device)
    options = options or PredictionOptions()
    return Predictor(
        model=model,
        device=device,
        options=options,
        rules=read_rules(rules_path, class_names(model.plan)) if postprocess and rules_path.exists() else (),
        decision=_read_decision(decision_path, model) if decide and decision_path.exists() else None,
        previous=_load_previous(Path(model_dir), model, device, options, out_of_fold),
    )


def _load_previous(
    model_dir: Path, model: Model, device: torch.device, options: PredictionOptions, out_of_fold: bool
) -> Predictor | None:
    """The predictor of a cascade's first model, None of any other model; CheckpointError where they do not fit."""
    if model.previous is None:
        if model.configuration.previous_stage is not None:
            raise CheckpointError(f"{model_dir}: does not say which model its cascade begins with. Train it again.")
        return None
    folder = model.previous.folder(model_dir)
    folds = model.folds if out_of_fold else model.previous.folds
    first = load_predictor(folder, device, folds, options, postprocess=False, decide=False)
    if _named(first.model.plan) != _named(model.plan):
        raise CheckpointError(f"{folder}: other labels or channels than {model_dir}, which sees its segmentation.")
    for fold, its, ours in zip(folds, first.model.left_out, model.left_out, strict=True) if out_of_fold else ():
        if not ours <= its:
            raise CheckpointError(
                f"{folder}: fold {fold} was trained on cases that fold {fold} of {model_dir} left out. Train it again."
            )
    return first


def _named(plan: Plan) -> tuple[object, ...]:
    """What both models of a cascade must agree on."""
    return list(plan.labels.items()), plan.regions, [channel.name for channel in plan.channels], plan.axis_order


def whole_grid(volume: np.ndarray, prepared: PreparedCase) -> np.ndarray:
    """A volume (z, y, x) of the grid between crop and resampling on the image's own, 0 outside of the crop."""
    whole = uncropped(volume, prepared.crop_box, prepared.shape_before_crop)
    return in_file_order(whole, prepared.axis_order)


def class_names(plan: Plan) -> list[str]:
    """The names of the classes of label maps, background first; of numbered objects the objects' name."""
    return list(plan.labels) if plan.instances is None else ["background", plan.instances.name]


def _read_decision(path: Path, model: Model) -> Decision:
    decision = decision_from_json(read_json(path, CheckpointError), str(path))
    if not has_one_foreground(model.plan):
        raise CheckpointError(
            f"{path}: thresholds for one foreground, but the model has {len(model.plan.labels) - 1} labels. Remove it."
        )
    return decision


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
