"""Checkpoints: one safetensors file with the tensors and, as JSON in its metadata, all that rebuilds the model.

Neutral ground between the trainer, which writes, and the predictor, which reads. No pickle.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from msseg.errors import CheckpointError, PlanError
from msseg.files import atomic_path, value_hash
from msseg.folders import FINAL, LATEST
from msseg.networks.build import build_network
from msseg.previous_model import PreviousModel, previous_from_json
from planning.plan import Configuration, Plan, plan_from_json, plan_to_json

CHECKPOINT_VERSION = 1

_METADATA_KEY = "msseg"
_WEIGHTS, _AVERAGED, _OPTIMISER = "weights/", "averaged/", "optimiser/"


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights and what they belong to.

    `plan` is the plan as trained: its configuration carries the recipe's batch size and width. `metadata` is JSON:
    the trainer's recipe, seed, state, split and versions. `previous` is there for the second network of a cascade.
    """

    weights: Mapping[str, torch.Tensor]
    plan: Plan
    configuration_name: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ema_weights: Mapping[str, torch.Tensor] | None = None
    optimiser: Mapping[str, torch.Tensor] = field(default_factory=dict)
    previous: PreviousModel | None = None

    @property
    def configuration(self) -> Configuration:
        return self.plan.configurations[self.configuration_name]

    @property
    def best_weights(self) -> Mapping[str, torch.Tensor]:
        """The moving average where there is one."""
        return self.weights if self.ema_weights is None else self.ema_weights


@dataclass(frozen=True)
class Model:
    """A trained model ready to predict: one network per fold, in eval mode; `notes` say what the user should know.

    `left_out` are the cases that each fold was validated on, as far as it tells. `previous` leads to the first model of
    a cascade.
    """

    plan: Plan
    configuration: Configuration
    networks: list[nn.Module]
    folds: tuple[str, ...]
    notes: tuple[str, ...] = ()
    left_out: tuple[frozenset[str], ...] = ()
    previous: PreviousModel | None = None


def plan_hash(plan: Plan) -> str:
    """What tells one plan from another."""
    return value_hash(plan_to_json(plan))


def versions() -> dict[str, str]:
    """The versions of what computes, for the record."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("msseg")
    except PackageNotFoundError:
        own = "not installed"
    return {"msseg": own, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}


def with_configuration(plan: Plan, configuration: Configuration) -> Plan:
    """The plan with this configuration in place of the one of its name."""
    return replace(plan, configurations={**plan.configurations, configuration.name: configuration})


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint, atomically: a kill leaves the old file or the new one."""
    header = {
        "version": CHECKPOINT_VERSION,
        "plan": plan_to_json(checkpoint.plan),
        "configuration_name": checkpoint.configuration_name,
        "labels": checkpoint.plan.labels,
        "metadata": dict(checkpoint.metadata),
        **({} if checkpoint.previous is None else {"previous_stage": checkpoint.previous.as_json()}),
    }
    tensors = {
        **_prefixed(_WEIGHTS, checkpoint.weights),
        **_prefixed(_AVERAGED, checkpoint.ema_weights or {}),
        **_prefixed(_OPTIMISER, checkpoint.optimiser),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {_METADATA_KEY: json.dumps(header, allow_nan=False)})


def _prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in `path`, on the CPU; CheckpointError where it is missing, damaged or not one of ours."""
    try:
        with safe_open(path, framework="pt") as stored:
            header = _header(path, stored.metadata())
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint. Train this fold first (msseg_train).") from None
    except (SafetensorError, OSError) as problem:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({problem}). Delete it and train again, or copy it again."
        ) from None
    try:
        return Checkpoint(
            weights=_with_prefix(_WEIGHTS, tensors),
            plan=plan_from_json(header["plan"], source=str(path)),
            configuration_name=header["configuration_name"],
            metadata=header["metadata"],
            ema_weights=_with_prefix(_AVERAGED, tensors) or None,
            optimiser=_with_prefix(_OPTIMISER, tensors),
            previous=previous_from_json(header.get("previous_stage")),
        )
    except (KeyError, TypeError, PlanError) as problem:
        raise CheckpointError(f"{path}: its metadata lacks or contradicts something: {problem}. Train again.") from None


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})[_METADATA_KEY])
    except (KeyError, json.JSONDecodeError):
        raise CheckpointError(
            f"{path}: a safetensors file, but not written by msseg. Give a checkpoint of msseg_train."
        ) from None
    if header.get("version") != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint version {header.get('version')}, expected {CHECKPOINT_VERSION}. "
            "Use the msseg that wrote it, or train again."
        )
    return header


def _with_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy `weights` into `network`; CheckpointError naming the first tensors that do not fit."""
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as problem:
        reason = " ".join(str(problem).split())[:300]
        raise CheckpointError(f"{path}: its weights do not fit the plan's network ({reason}). Train again.") from None


def load_model(model_dir: Path, folds: Sequence[str] | None = None, device: torch.device | str = "cpu") -> Model:
    """The trained networks of a model folder on `device`; all folds that are there unless `folds` names some.

    A fold whose training is not finished gives its latest weights and a note. Raises CheckpointError where a fold
    or all of them are missing, or where folds were trained with different plans.
    """
    chosen = tuple(str(fold) for fold in folds) if folds else trained_folds(model_dir)
    if not chosen:
        raise CheckpointError(f"{model_dir}: no trained fold (fold_*/{FINAL}). Train one first (msseg_train).")
    paths = [_weights_path(Path(model_dir), fold) for fold in chosen]
    checkpoints = [load_checkpoint(path) for path in paths]
    _same_geometry(checkpoints, paths)
    return Model(
        plan=checkpoints[0].plan,
        configuration=_common_configuration(checkpoints),
        networks=[rebuild(checkpoint, path, device) for checkpoint, path in zip(checkpoints, paths, strict=True)],
        folds=chosen,
        notes=(
            *(
                f"fold {fold}: training is not finished; its latest weights are used"
                for fold, path in zip(chosen, paths, strict=True)
                if path.name == LATEST
            ),
            *checkpoints[0].metadata.get("notes", ()),
        ),
        left_out=tuple(frozenset(one.metadata.get("identity", {}).get("validation_cases", ())) for one in checkpoints),
        previous=checkpoints[0].previous,
    )


def trained_folds(model_dir: Path) -> tuple[str, ...]:
    """The names of the finished folds, sorted; of those that have a latest checkpoint where none is finished."""
    for name in (FINAL, LATEST):
        found = sorted(path.parent.name[len("fold_") :] for path in Path(model_dir).glob(f"fold_*/{name}"))
        if found:
            return tuple(found)
    return ()


def _weights_path(model_dir: Path, fold: str) -> Path:
    folder = model_dir / f"fold_{fold}"
    return next((folder / name for name in (FINAL, LATEST) if (folder / name).is_file()), folder / FINAL)


def _same_geometry(checkpoints: Sequence[Checkpoint], paths: Sequence[Path]) -> None:
    """Folds may differ in how they were trained, not in what they see and what they name."""

    def geometry(checkpoint: Checkpoint) -> tuple[Any, ...]:
        plan, configuration = checkpoint.plan, checkpoint.configuration
        before = None if checkpoint.previous is None else checkpoint.previous.place
        seen = configuration.spacing_mm, configuration.patch_size, configuration.neighbour_slices, before
        return plan.labels, plan.regions, plan.label_pairs, plan.lateral_axis, plan.channels, plan.axis_order, *seen

    for checkpoint, path in zip(checkpoints[1:], paths[1:], strict=True):
        if geometry(checkpoint) != geometry(checkpoints[0]):
            raise CheckpointError(
                f"{path}: trained with another plan than {paths[0]} (labels, their pairs, channels, spacing, patch "
                "or the model before it differ). Predict with one of them, or train the folds again with one plan."
            )


def _common_configuration(checkpoints: Sequence[Checkpoint]) -> Configuration:
    """The first fold's configuration, with the mirror axes that every fold was trained with: recipes differ in them."""
    configuration = checkpoints[0].configuration
    others = [set(checkpoint.configuration.mirror_axes) for checkpoint in checkpoints]
    shared = tuple(axis for axis in configuration.mirror_axes if all(axis in axes for axes in others))
    return replace(configuration, mirror_axes=shared)


def rebuild(checkpoint: Checkpoint, path: Path, device: torch.device | str) -> nn.Module:
    """The checkpoint's network with its best weights, on `device`, in eval mode; `path` is for messages."""
    plan = checkpoint.plan
    network = build_network(checkpoint.configuration, len(plan.channels), plan.outputs)
    load_weights(network, checkpoint.best_weights, path)
    return network.to(device).eval()
