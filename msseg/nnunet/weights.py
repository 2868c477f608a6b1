"""nnU-Net's weights under the names of our networks: every tensor has one place, or the import says which has not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch

from msseg.errors import CheckpointError
from msseg.networks.grid_network import GridNetwork
from planning.plan import Configuration

_NODE = re.compile(r"nodes\.(\d+)_(\d+)\.(\d+)\.(.+)")
_UP = re.compile(r"edges\.\d+_\d+_to_(\d+)_\d+\.convolution\.(.+)")
_HEAD = re.compile(r"heads\.(\d+)_\d+\.(.+)")
# Within a unit, and within a residual unit. A norm that activation is not one with stands first in a sequence.
_UNIT = {"convolution": "conv", "norm_activation": "norm", "norm_activation.0": "norm"}
_RESIDUAL = {"first": "conv1", "second": "conv2"}


def our_weights(
    theirs: Mapping[str, torch.Tensor], configuration: Configuration, in_channels: int, num_classes: int, source: str
) -> dict[str, torch.Tensor]:
    """The state dict of our network of `configuration`; numbers are float32, counters as they are.

    Raises CheckpointError naming the tensors that are missing, of another shape, or that our network has no place for.
    """
    wanted = _shapes(configuration, in_channels, num_classes)
    names = {name: their_name(name, configuration) for name in wanted}
    missing = [their for their in names.values() if their not in theirs]
    surplus = sorted(set(theirs) - set(names.values()))
    if missing or surplus:
        raise CheckpointError(_listing(source, missing, surplus))
    for name, their in names.items():
        if theirs[their].shape != wanted[name]:
            found, expected = list(theirs[their].shape), list(wanted[name])
            raise CheckpointError(f"{source}: {their}: found shape {found}, expected {expected} by plans.json.")
    return {name: _single(theirs[their]) for name, their in names.items()}


def _shapes(configuration: Configuration, in_channels: int, num_classes: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        network = GridNetwork(configuration, configuration.input_channels(in_channels), num_classes)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _listing(source: str, missing: list[str], surplus: list[str]) -> str:
    parts = [
        f"{len(names)} tensors {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for names, what in ((missing, "are missing"), (surplus, "have no place in it"))
        if names
    ]
    return (
        f"{source}: its weights are not those of the network in plans.json: {' and '.join(parts)}. The trainer built "
        "another network, which cannot be taken over; predict with nnU-Net itself."
    )


def their_name(ours: str, configuration: Configuration) -> str:
    """nnU-Net's name of one of our tensors.

    Its decoder counts stages from the bottleneck up. A residual encoder has its stem apart, and the projection past a
    block stands behind the pooling, where there is one.
    """
    for pattern, rename in _RENAMES:
        found = pattern.fullmatch(ours)
        if found:
            return rename(found, configuration)
    raise CheckpointError(f"{ours}: no name of nnU-Net's is known for it. Import a plain or residual encoder U-Net.")


def _stage(level: str, configuration: Configuration) -> int:
    return len(configuration.features) - 2 - int(level)


def _up(found: re.Match[str], configuration: Configuration) -> str:
    return f"decoder.transpconvs.{_stage(found[1], configuration)}.{found[2]}"


def _head(found: re.Match[str], configuration: Configuration) -> str:
    return f"decoder.seg_layers.{_stage(found[1], configuration)}.{found[2]}"


def _node(found: re.Match[str], configuration: Configuration) -> str:
    level, column, index, rest = found[1], found[2], int(found[3]), found[4]
    if column != "0":
        return f"decoder.stages.{_stage(level, configuration)}.convs.{index}.{_unit(rest)}"
    if configuration.row.encoder_block == "plain":
        return f"encoder.stages.{level}.0.convs.{index}.{_unit(rest)}"
    if level == "0" and index == 0:
        return f"encoder.stem.convs.0.{_unit(rest)}"
    block = index - 1 if level == "0" else index
    part, _, rest = rest.partition(".")
    if part == "past":
        strided = level != "0" and max(configuration.strides[int(level) - 1]) > 1
        return f"encoder.stages.{level}.blocks.{block}.skip.{int(strided)}.{_unit(rest)}"
    return f"encoder.stages.{level}.blocks.{block}.{_RESIDUAL[part]}.{_unit(rest)}"


def _unit(rest: str) -> str:
    module, _, parameter = rest.rpartition(".")
    return f"{_UNIT[module]}.{parameter}"


_RENAMES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Configuration], str]], ...] = (
    (_NODE, _node),
    (_UP, _up),
    (_HEAD, _head),
)
