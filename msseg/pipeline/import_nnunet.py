"""A trained nnU-Net v2 model taken over: its folder in, a model folder of ours out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msseg.checkpoint import FINAL, Checkpoint, load_checkpoint, save_checkpoint, versions
from msseg.errors import CheckpointError
from msseg.files import atomic_folder, content_hash, read_json
from msseg.inference.predictor import RULES_FILE
from msseg.nnunet.checkpoint import TrainedFold, read_fold
from msseg.nnunet.plans import ImportedPlan, ModelFiles, import_plan
from msseg.nnunet.postprocessing import find_postprocessing, read_postprocessing
from msseg.nnunet.weights import our_weights
from msseg.postprocessing.rules import write_rules
from msseg.previous_model import INSIDE, PreviousModel
from planning.plan import Configuration, Plan

PROVENANCE = "imported"
KINDS = ("final", "best")
_FOLD = "fold_"
_ALL = "all"
_OWN_TRAINERS = "nnUNetTrainer"

_LOG = logging.getLogger("msseg")

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class ImportReport:
    """What was taken over, and what whoever predicts with it should know."""

    model: Path
    imported: ImportedPlan
    folds: tuple[str, ...]
    rules: int
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Lines for the end of the command."""
        configuration, plan = self.imported.configuration, self.imported.plan
        lines = [
            f"{self.model}: {plan.dataset_name}, {configuration.name}, {configuration.network}, "
            f"{_scored(plan)}, folds {', '.join(self.folds)}, mirrored along "
            f"{len(configuration.mirror_axes)} axes, {self.rules} postprocessing rules."
        ]
        return "\n".join([*lines, *(f"note: {note}." for note in self.notes)])


def _scored(plan: Plan) -> str:
    """What its network scores."""
    return f"{len(plan.regions)} regions" if plan.regions else f"{len(plan.labels)} classes"


def import_nnunet(
    model_dir: PathLike,
    output: PathLike,
    folds: Sequence[str | int] | None = None,
    checkpoint: str = "final",
    previous: PathLike | None = None,
) -> Path:
    """The folder of our model made from an nnU-Net v2 model; notes are logged. See `take_over`."""
    report = take_over(model_dir, output, folds, checkpoint, previous)
    for note in report.notes:
        _LOG.warning("%s: %s.", report.model, note)
    return report.model


def take_over(
    model_dir: PathLike,
    output: PathLike,
    folds: Sequence[str | int] | None = None,
    checkpoint: str = "final",
    previous: PathLike | None = None,
) -> ImportReport:
    """Write the folder `output`, a model that predicts what the nnU-Net model in `model_dir` does; the report.

    `model_dir` holds plans.json, dataset.json and fold_*/checkpoint_final.pth (`checkpoint` best: _best.pth). `folds`
    names some of them (default: all numbered ones, or else fold_all). Of a cascade the model before it comes along,
    with all its folds: `previous`, else the one beside it. The folder appears whole or not at all; one of an earlier
    import is replaced. Raises CheckpointError or PlanError that name the file and what is wrong with it.
    """
    folder, output = Path(model_dir), Path(output)
    files = _model_files(folder)
    _check_place(output)
    paths = _fold_paths(folder, folds, checkpoint)
    first = read_fold(next(iter(paths.values())))
    imported = import_plan(files, first.configuration, first.trainer, first.mirror_axes)
    rules_path, left_aside = find_postprocessing(folder, tuple(paths))
    rules = read_postprocessing(rules_path, len(imported.plan.labels)) if rules_path else []
    with atomic_folder(output) as temporary:
        before = _taken_before(folder, imported.configuration, temporary, checkpoint, previous)
        for fold, path in paths.items():
            one = first if path == first.path else read_fold(path)
            _same_training(one, first)
            whole = replace(_our_checkpoint(one, imported), previous=before)
            save_checkpoint(temporary / f"{_FOLD}{fold}" / FINAL, whole)
        if rules:
            write_rules(temporary / RULES_FILE, rules)
    notes = (*imported.notes, *_trainer_notes(first), *([left_aside] if left_aside else []), *_cascade_notes(before))
    return ImportReport(output, imported, tuple(paths), len(rules), notes)


def _taken_before(
    folder: Path, configuration: Configuration, output: Path, checkpoint: str, previous: PathLike | None
) -> PreviousModel | None:
    """The model before that of `folder` in a cascade, taken over into `output`; None where it stands alone."""
    if configuration.previous_stage is None:
        if previous is not None:
            raise CheckpointError(
                f"{folder}: no cascade, so that no model comes before it. Leave --previous-stage out."
            )
        return None
    found = Path(previous) if previous is not None else _beside(folder, configuration)
    report = take_over(found, output / INSIDE, None, checkpoint)
    if report.imported.configuration.name != configuration.previous_stage:
        raise CheckpointError(
            f"{found}: {report.imported.configuration.name}, but {folder} sees the segmentation of "
            f"{configuration.previous_stage}. Name that with --previous-stage."
        )
    return PreviousModel(INSIDE, report.folds)


def _beside(folder: Path, configuration: Configuration) -> Path:
    """Where nnU-Net leaves the model before it, by the same trainer and plans."""
    name = folder.resolve().name
    found = folder.resolve().with_name(f"{name.rpartition('__')[0]}__{configuration.previous_stage}")
    if not found.is_dir():
        raise CheckpointError(
            f"{folder}: a cascade, whose {configuration.previous_stage} is not beside it ({found.name}). Name its "
            "folder with --previous-stage."
        )
    return found


def _cascade_notes(before: PreviousModel | None) -> tuple[str, ...]:
    if before is None:
        return ()
    return (f"a cascade: the model before it lies in {INSIDE}, folds {', '.join(before.folds)}, and predicts first",)


def _model_files(folder: Path) -> ModelFiles:
    """plans.json and dataset.json; where they are not, what is wrong with the place."""
    if not (folder / "plans.json").is_file():
        below = sorted(path.parent.name for path in folder.glob("*/plans.json"))
        hint = f"Name one of its models: {', '.join(below)}" if below else (
            "Name the folder of one trained configuration, such as "
            "nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres"
        )  # fmt: skip
        raise CheckpointError(f"{folder}: has no plans.json, expected a trained nnU-Net v2 model. {hint}.")
    plans, dataset = (read_json(folder / name, CheckpointError) for name in ("plans.json", "dataset.json"))
    for name, value in (("plans.json", plans), ("dataset.json", dataset)):
        if not isinstance(value, dict):
            raise CheckpointError(f"{folder / name}: found a {type(value).__name__}, expected an object.")
    return ModelFiles(str(folder), plans, dataset)


def _fold_paths(folder: Path, folds: Sequence[str | int] | None, kind: str) -> dict[str, Path]:
    """The checkpoints by fold, sorted; CheckpointError where one that was named, or any, is not there."""
    if kind not in KINDS:
        raise CheckpointError(f"checkpoint: found {kind!r}, expected one of {', '.join(KINDS)}.")
    name = f"checkpoint_{kind}.pth"
    there = {path.parent.name.removeprefix(_FOLD): path for path in sorted(folder.glob(f"{_FOLD}*/{name}"))}
    chosen = [str(fold) for fold in folds] if folds else [fold for fold in there if fold != _ALL] or list(there)
    missing = [fold for fold in chosen if fold not in there]
    if missing or not chosen:
        wanted = ", ".join(f"{_FOLD}{fold}/{name}" for fold in missing) or f"{_FOLD}*/{name}"
        found = f"found {name} of the folds {', '.join(there)}" if there else f"found none with {name}"
        raise CheckpointError(
            f"{folder}: {wanted} is not there ({found}). Finish that training, choose others with --folds, or take "
            "the other checkpoint with --checkpoint."
        )
    return {fold: there[fold] for fold in dict.fromkeys(chosen)}


def _same_training(one: TrainedFold, first: TrainedFold) -> None:
    if (one.configuration, one.trainer) != (first.configuration, first.trainer):
        raise CheckpointError(
            f"{one.path}: {one.configuration} by {one.trainer}, but {first.path} is {first.configuration} by "
            f"{first.trainer}. Import them one by one with --folds."
        )


def _our_checkpoint(fold: TrainedFold, imported: ImportedPlan) -> Checkpoint:
    plan, configuration = imported.plan, imported.configuration
    weights = our_weights(fold.weights, configuration, len(plan.channels), plan.outputs, str(fold.path))
    origin: Mapping[str, Any] = {
        "from": "nnU-Net v2",
        "trainer": fold.trainer,
        "epochs": fold.epochs,
        "checkpoint": fold.path.name,
        "hash": content_hash(fold.path),
    }
    return Checkpoint(
        weights=weights,
        plan=plan,
        configuration_name=configuration.name,
        metadata={PROVENANCE: origin, "notes": list(imported.notes), "versions": versions()},
    )


def _trainer_notes(fold: TrainedFold) -> tuple[str, ...]:
    if fold.trainer.startswith(_OWN_TRAINERS):
        return ()
    return (
        f"{fold.trainer} is none of nnU-Net's own trainers; all its tensors fit the network in plans.json, which it is "
        "taken to have trained unchanged",
    )


def _check_place(output: Path) -> None:
    """Raise CheckpointError where `output` holds something that is not an imported model."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    found = sorted(output.glob(f"{_FOLD}*/{FINAL}")) if output.is_dir() else []
    if not found or any(PROVENANCE not in load_checkpoint(path).metadata for path in found):
        raise CheckpointError(f"{output}: holds something else than an imported model. Name another folder with -o.")
