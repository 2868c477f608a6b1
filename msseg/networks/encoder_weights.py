"""Weights of an encoder of the literature, from a file by torchvision's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from msseg.networks.names import node_name
from planning.encoders import ENCODERS, OWN
from planning.errors import MssegError
from planning.grids import Node

_IMAGE_CHANNELS = 3
# Files of 2017 do not have it.
_COUNTER = "num_batches_tracked"
_PLACES = {"first": 1, "second": 2, "third": 3}

Weights = Mapping[str, torch.Tensor]
# The name of a module in the file, and what it is loaded into.
Place = tuple[str, nn.Module]


class EncoderWeightsError(MssegError):
    """A file of encoder weights that cannot be read or does not fit the network."""


def load_encoder_weights(network: nn.Module, path: Path) -> tuple[str, ...]:
    """The names loaded into the encoder of `network`, which is changed in place.

    `path` is a safetensors file, or a torch file of tensors alone, with the state dict of torchvision's vgg16, vgg16_bn
    or resnet101. Stages that the network has not are left out; for an image of one channel the first kernel is summed
    over its three. Where the file's encoder has no batch norm, the network's norms stay as they are. Raises
    EncoderWeightsError at a file that cannot be read or does not fit; the network is then unchanged.
    """
    encoder = getattr(network, "encoder", OWN)
    if encoder not in PLACES:
        known = ", ".join(PLACES)
        raise EncoderWeightsError(f"{path}: the network's encoder is {encoder!r}, expected one of {known}.")
    weights = _read(path)
    fitting: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for module_name, module in PLACES[encoder](network.get_submodule("nodes"), weights):
        for name, target in module.state_dict(keep_vars=True).items():
            whole = f"{module_name}.{name}"
            if whole in weights:
                fitting[whole] = target, _fitted(weights[whole], target, f"{path}: {whole}")
            elif name != _COUNTER:
                raise EncoderWeightsError(f"{path}: {whole} is missing; expected torchvision's weights of {encoder}.")
    with torch.no_grad():
        for target, value in fitting.values():
            target.copy_(value)
    return tuple(fitting)


def _read(path: Path) -> Weights:
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError:
        raise EncoderWeightsError(f"{path}: no such file; expected the encoder's weights.") from None
    except Exception as error:  # whatever the two readers stumble over in a file of somebody else
        wanted = "a .safetensors file, or a torch file (.pth) of tensors alone"
        raise EncoderWeightsError(f"{path}: not a file of weights, or damaged; expected {wanted}.") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise EncoderWeightsError(f"{path}: found {type(content).__name__}, expected a state dict: names and tensors.")
    return content


def _fitted(value: torch.Tensor, target: torch.Tensor, place: str) -> torch.Tensor:
    """The value in the target's shape: a first kernel for three channels is summed for an image of one."""
    if value.ndim == 4 and value.shape[1] == _IMAGE_CHANNELS and target.shape[1] == 1:
        value = value.sum(dim=1, keepdim=True)
    if value.shape != target.shape:
        found, wanted = tuple(value.shape), tuple(target.shape)
        raise EncoderWeightsError(f"{place}: found shape {found}, expected {wanted}: an image of 1 or 3 channels.")
    return value


def _vgg16(nodes: nn.Module, weights: Weights) -> Iterator[Place]:
    """torchvision numbers convolutions, norms, activations and pools in one row."""
    step = 3 if "features.1.running_mean" in weights else 2
    index = 0
    for level, convolutions in enumerate(ENCODERS["vgg16"].convolutions):
        for unit in range(convolutions):
            name = f"{node_name(Node(level, 0))}.{unit}"
            yield from _unit(nodes, name, f"features.{index}", f"features.{index + 1}" if step == 3 else None)
            index += step
        index += 1


def _resnet101(nodes: nn.Module, weights: Weights) -> Iterator[Place]:
    yield from _unit(nodes, f"{node_name(Node(1, 0))}.0", "conv1", "bn1")
    for layer, blocks in enumerate(ENCODERS["resnet101"].convolutions[1:], start=1):
        for block in range(blocks):
            ours, its = f"{node_name(Node(layer + 1, 0))}.{block}", f"layer{layer}.{block}"
            for place, number in _PLACES.items():
                yield from _unit(nodes, f"{ours}.{place}", f"{its}.conv{number}", f"{its}.bn{number}")
            if block == 0:
                yield from _unit(nodes, f"{ours}.past", f"{its}.downsample.0", f"{its}.downsample.1")


def _unit(nodes: nn.Module, name: str, convolution: str, norm: str | None) -> Iterator[Place]:
    """The convolution and the batch norm of one unit; nothing where the network has not so many levels."""
    modules = dict(nodes.named_modules())
    if f"{name}.convolution" not in modules:
        return
    yield convolution, modules[f"{name}.convolution"]
    ours = modules.get(f"{name}.norm_activation.0")
    if norm is not None and isinstance(ours, _BatchNorm):
        yield norm, ours
    elif norm is not None and isinstance(ours, nn.Identity):
        raise EncoderWeightsError(f"{norm}: the file has batch norms, the network has none; expected norm=batch.")


PLACES: dict[str, Callable[[nn.Module, Weights], Iterator[Place]]] = {"vgg16": _vgg16, "resnet101": _resnet101}
