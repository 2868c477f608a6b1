"""A model folder cut to one of its levels: every fold, the plan, and what became of the postprocessing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msseg.checkpoint import FINAL, Checkpoint, load_checkpoint, save_checkpoint, trained_folds, with_configuration
from msseg.errors import CheckpointError
from msseg.files import atomic_folder, content_hash
from msseg.inference.predictor import RULES_FILE
from msseg.networks.pruning import prunable_levels, pruned_configuration, pruned_weights
from msseg.previous_model import PreviousModel
from planning.plan import Reason

PROVENANCE = "pruned"
_FOLD = "fold_"


@dataclass(frozen=True)
class WholeModel:
    """A trained model before it is cut: its folder and the checkpoints by fold, with their files."""

    folder: Path
    checkpoints: Mapping[str, Checkpoint]
    paths: Mapping[str, Path]

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that every fold can be cut to. Raises PlanError where there are none."""
        found = [set(prunable_levels(one.configuration)) for one in self.checkpoints.values()]
        return tuple(sorted(set.intersection(*found)))


def read_whole_model(model: Path) -> WholeModel:
    """The model of a folder with all its finished folds, or of one fold's folder or checkpoint.

    Raises CheckpointError where there is none.
    """
    if model.is_file() or model.name.startswith(_FOLD):
        path = model if model.is_file() else model / FINAL
        if not path.parent.name.startswith(_FOLD):
            raise CheckpointError(f"{path}: expected a checkpoint in MODEL/{_FOLD}0/ or a model folder. Name that.")
        fold = path.parent.name.removeprefix(_FOLD)
        return WholeModel(path.parent.parent, {fold: load_checkpoint(path)}, {fold: path})
    paths = {fold: model / f"{_FOLD}{fold}" / FINAL for fold in trained_folds(model)}
    if not paths:
        raise CheckpointError(f"{model}: no trained fold ({_FOLD}*/{FINAL}). Train one first (msseg_train).")
    return WholeModel(model, {fold: load_checkpoint(path) for fold, path in paths.items()}, paths)


def pruned_checkpoint(checkpoint: Checkpoint, level: int, provenance: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of the branch X[0, level] alone, for prediction: the weights to use and no optimiser.

    Raises PlanError at a level that the network cannot be cut to.
    """
    whole = checkpoint.configuration
    configuration = pruned_configuration(whole, level)
    reason = Reason(
        subject=f"configurations.{whole.name}.network",
        decision=f"{whole.network} cut to level {level} of {len(whole.strides)}",
        because="the nodes below feed only deeper branches",
        source="msseg_prune",
    )
    plan = with_configuration(checkpoint.plan, configuration)
    return replace(
        checkpoint,
        weights=pruned_weights(checkpoint.best_weights, configuration),
        plan=replace(plan, reasons=(*plan.reasons, reason)),
        metadata={**checkpoint.metadata, PROVENANCE: dict(provenance)},
        ema_weights=None,
        optimiser={},
    )


def write_pruned_model(
    whole: WholeModel, level: int, output: Path, keep_rules: bool, provenance: Mapping[str, Any]
) -> None:
    """Write the model cut to `level` as the folder `output`, whole or not at all.

    A pruned model that lies there already is replaced; CheckpointError where anything else does.
    """
    check_place(output)
    with atomic_folder(output) as folder:
        for fold, checkpoint in whole.checkpoints.items():
            origin = {"level": level, "checkpoint": content_hash(whole.paths[fold]), **provenance}
            pruned = pruned_checkpoint(checkpoint, level, origin)
            previous = previous_seen_from(output, whole.folder, checkpoint.previous)
            save_checkpoint(folder / f"{_FOLD}{fold}" / FINAL, replace(pruned, previous=previous))
        rules = whole.folder / RULES_FILE
        if keep_rules and rules.is_file():
            shutil.copyfile(rules, folder / RULES_FILE)


def previous_seen_from(output: Path, model: Path, previous: PreviousModel | None) -> PreviousModel | None:
    """The record of the model before `model`, for a copy of it in `output`; CheckpointError where that is gone."""
    return None if previous is None else PreviousModel.of(output, previous.folder(model), previous.folds)


def check_place(output: Path) -> None:
    """Raise CheckpointError where `output` holds something that is not a pruned model."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    found = sorted(output.glob(f"{_FOLD}*/{FINAL}")) if output.is_dir() else []
    if not found or any(PROVENANCE not in load_checkpoint(path).metadata for path in found):
        raise CheckpointError(f"{output}: holds something else than a pruned model. Name another folder with -o.")
