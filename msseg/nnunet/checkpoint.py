"""One fold of an nnU-Net model: its weights, and what its checkpoint says of itself.

Reading is restricted, see `msseg.nnunet.opcodes`: a checkpoint holds tensors, numbers, texts, None and containers of
these, or it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from msseg.errors import CheckpointError
from msseg.nnunet.archive import Archive, open_archive
from msseg.nnunet.stored import TensorRef

WEIGHTS, ARGUMENTS = "network_weights", "init_args"
_DEFAULT_TRAINER = "nnUNetTrainer"
# What other programs wrap a network in before its weights are saved.
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class TrainedFold:
    """One checkpoint; `mirror_axes` None: the trainer mirrored along none. `epochs` is 0 where it is not said."""

    path: Path
    weights: Mapping[str, torch.Tensor]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...] | None
    epochs: int


def read_fold(path: Path) -> TrainedFold:
    """The fold in an nnU-Net checkpoint; modules that the state dict names twice appear once.

    Raises CheckpointError where the file is missing, damaged, hostile, or no checkpoint of nnU-Net v2. The optimiser's
    state, two thirds of the file, is not read.
    """
    with open_archive(path) as archive:
        value = archive.data()
        if not isinstance(value, dict) or not {WEIGHTS, ARGUMENTS} <= value.keys():
            found = ", ".join(map(str, list(value)[:8])) if isinstance(value, dict) else type(value).__name__
            raise CheckpointError(
                f"{path}: found {found}; expected {WEIGHTS} and {ARGUMENTS}, as nnU-Net v2 saves them. "
                "Models of nnU-Net v1 cannot be taken over."
            )
        return TrainedFold(
            path=path,
            weights=_weights(archive, value[WEIGHTS]),
            configuration=_text(path, value[ARGUMENTS], "configuration", None),
            trainer=_text(path, value, "trainer_name", _DEFAULT_TRAINER),
            mirror_axes=_mirror_axes(path, value.get("inference_allowed_mirroring_axes")),
            epochs=value["current_epoch"] if type(value.get("current_epoch")) is int else 0,
        )


def _text(path: Path, value: Any, name: str, default: str | None) -> str:
    found = value.get(name, default) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found:
        raise CheckpointError(f"{path}: {name}: found {_shown(found)}, expected a text. {_NOT_NNUNET}")
    return found


_NOT_NNUNET = "Is this a checkpoint of nnU-Net v2?"


def _mirror_axes(path: Path, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or not all(type(axis) is int and 0 <= axis < 3 for axis in value):
        raise CheckpointError(f"{path}: mirroring axes: found {_shown(value)}, expected some of 0, 1, 2. {_NOT_NNUNET}")
    return tuple(value)


def _shown(value: Any) -> str:
    """A short value as it is, else its kind: a file decides what is in it, not what a message holds."""
    return repr(value)[:80] if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"


def _weights(archive: Archive, value: Any) -> dict[str, torch.Tensor]:
    """The tensors by name. A second name for a module is dropped after it is checked that it holds the same."""
    if not isinstance(value, dict) or not value:
        raise CheckpointError(f"{archive.path}: {WEIGHTS}: found {_shown(value)}, expected tensors. {_NOT_NNUNET}")
    refs: dict[str, TensorRef] = {}
    for name, ref in value.items():
        if not isinstance(name, str) or not isinstance(ref, TensorRef):
            raise CheckpointError(f"{archive.path}: {WEIGHTS}: {_shown(name)}: found {_shown(ref)}, expected a tensor.")
        refs[_unwrapped(name)] = ref
    weights = {name: archive.tensor(ref) for name, ref in refs.items() if first_name(name) == name}
    for name, ref in refs.items():
        original = first_name(name)
        if original not in weights:
            weights[name] = archive.tensor(ref)
        elif refs[original] != ref and not torch.equal(archive.tensor(ref), weights[original]):
            raise CheckpointError(
                f"{archive.path}: {name} and {original} are one module of nnU-Net's, but their numbers differ. "
                "Take the checkpoint as nnU-Net saved it."
            )
    return weights


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def first_name(name: str) -> str:
    """The name that stands for a module: `decoder.encoder.` is the encoder, `all_modules.0` the convolution, and so on.

    What has no second name is its own.
    """
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    before, found, after = name.partition(".all_modules.")
    if not found:
        return name
    index, _, parameter = after.partition(".")
    return f"{before}.{'conv' if index == '0' else 'norm'}.{parameter}"
