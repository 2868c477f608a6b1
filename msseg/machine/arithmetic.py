"""How fast this machine runs networks: its CPU with as many threads as torch takes, and its graphics card."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from msseg.devices import autocast_dtype
from msseg.machine.timing import least_seconds
from msseg.networks.allocation import keep_freed_memory
from msseg.networks.build import build_network
from msseg.networks.units import ConvolutionUnit, UnitShape
from msseg.training.probing import probe_step
from planning.costs.machine import Arithmetic, ConvolutionRate, Correction
from planning.costs.network import uncorrected_seconds
from planning.networks import PLAIN_UNET
from planning.overview import reference_configuration, with_network
from planning.plan import Configuration

# Kernel and stride of each kind; planar ones lie in volumes, as anisotropic plans have them.
_SHAPES = {
    "full": ((3, 3, 3), (1, 1, 1)),
    "planar": ((1, 3, 3), (1, 1, 1)),
    "strided": ((3, 3, 3), (2, 2, 2)),
    "pointwise": ((1, 1, 1), (1, 1, 1)),
}
# Channels, and the edge of the cube on which a U-Net has so many; a graphics card needs more to be filled.
_EDGES = {8: 40, 16: 40, 32: 40, 128: 10, 320: 6}
_DEVICE_EDGES = {8: 96, 16: 96, 32: 96, 64: 64, 128: 32, 320: 12}
_WIDTHS = (8, 16, 32)
_PATCH_EDGE, _DEVICE_PATCH_EDGE = 40, 96
_PRODUCT_EDGE, _DEVICE_PRODUCT_EDGE = 768, 4096
_COPY_BYTES = 1 << 26
_CHANNELS, _CLASSES = 1, 3


def measured_arithmetic() -> dict[str, Any]:
    """The CPU's and the first graphics card's arithmetic as JSON values, and the threads that torch takes."""
    keep_freed_memory()
    cpu = _arithmetic(torch.device("cpu"), _EDGES, _PATCH_EDGE, _PRODUCT_EDGE, "CPU")
    device = None
    if torch.cuda.is_available():
        device = _cuda()
    as_value = asdict(cpu)
    as_value["to_device_bytes_per_s"] = None
    return {"threads": torch.get_num_threads(), "cpu": as_value, "device": None if device is None else asdict(device)}


def _cuda() -> Arithmetic:
    device = torch.device("cuda", 0)
    free, _ = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    found = _arithmetic(device, _DEVICE_EDGES, _DEVICE_PATCH_EDGE, _DEVICE_PRODUCT_EDGE, name)
    context = max(0, free - torch.cuda.mem_get_info(device)[0] - torch.cuda.memory_reserved(device))
    pinned = torch.zeros(_COPY_BYTES, dtype=torch.uint8).pin_memory()
    seconds = _seconds(device, lambda: pinned.to(device))
    return replace(found, to_device_bytes_per_s=_COPY_BYTES / seconds, free_bytes=free, base_bytes=context)


def _arithmetic(
    device: torch.device, edges: dict[int, int], patch_edge: int, product_edge: int, name: str
) -> Arithmetic:
    found = Arithmetic(
        name=name,
        convolutions=tuple(
            _convolution_rate(kind, width, edge, device) for kind in _SHAPES for width, edge in edges.items()
        ),
        corrections=(),
        product_per_s=_product_rate(device, product_edge, torch.float32),
        copy_bytes_per_s=_copy_rate(device),
        product_bf16_per_s=_product_rate(device, product_edge, torch.bfloat16),
    )
    return replace(found, corrections=tuple(_correction(width, patch_edge, device, found) for width in _WIDTHS))


def _convolution_rate(kind: str, width: int, edge: int, device: torch.device) -> ConvolutionRate:
    kernel, stride = _SHAPES[kind]
    shape = UnitShape(3, width, width, kernel, stride, True, "instance", "leaky_relu")
    unit = ConvolutionUnit(shape).to(device)
    image = torch.randn((1, width, edge, edge, edge), device=device)
    products = math.prod(-(-edge // step) for step in stride) * width * width * math.prod(kernel)
    forward_s = _seconds(device, lambda: _forward(unit, image))
    learnt = image.clone().requires_grad_()
    step_s = _seconds(device, lambda: _step(unit, learnt))
    return ConvolutionRate(kind, width, products / forward_s, products / step_s)


def _correction(width: int, edge: int, device: torch.device, arithmetic: Arithmetic) -> Correction:
    """What a whole plain U-Net takes, over what its parts add up to."""
    configuration = _small_unet(width, edge)
    network = build_network(configuration, _CHANNELS, _CLASSES).to(device)
    image = torch.randn((1, _CHANNELS, *configuration.patch_size), device=device)
    network.eval()
    forward_s = _seconds(device, lambda: _forward(network, image))
    network.train()
    dtype = autocast_dtype(device)
    step_s = _seconds(device, lambda: probe_step(network, image, dtype))
    predicted = [
        uncorrected_seconds(configuration, _CHANNELS, _CLASSES, arithmetic, training) for training in (False, True)
    ]
    return Correction(width, forward_s / predicted[0], step_s / predicted[1])


def _small_unet(width: int, edge: int) -> Configuration:
    """A plain U-Net of four levels on a cube."""
    base = replace(reference_configuration(3), patch_size=(edge,) * 3, batch_size=1)
    whole = with_network(base, PLAIN_UNET)
    levels = 4
    return replace(
        whole,
        features=tuple(width * 2**level for level in range(levels)),
        strides=whole.strides[: levels - 1],
        kernel_sizes=whole.kernel_sizes[:levels],
        encoder_convolutions=whole.encoder_convolutions[:levels],
        decoder_convolutions=whole.decoder_convolutions[: levels - 1],
        supervision_weights=(1.0,),
    )


def _product_rate(device: torch.device, edge: int, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a square matrix product."""
    left, right = (torch.randn((edge, edge), device=device).to(dtype) for _ in range(2))
    return edge**3 / _seconds(device, lambda: left @ right)


def _copy_rate(device: torch.device) -> float:
    """Bytes read and written a second by a copy that no cache holds."""
    source = torch.zeros(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * _COPY_BYTES / _seconds(device, lambda: target.copy_(source))


def _forward(module: torch.nn.Module, image: torch.Tensor) -> None:
    with torch.inference_mode(), _autocast(image.device):
        module(image)


def _step(module: torch.nn.Module, image: torch.Tensor) -> None:
    module.zero_grad(set_to_none=True)
    image.grad = None
    with _autocast(image.device):
        result = module(image)
    result.float().square().mean().backward()


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    dtype = autocast_dtype(device)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _seconds(device: torch.device, function: Callable[[], object]) -> float:
    """Seconds of the function, waited for: a graphics card's work goes on behind the call."""

    def run() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return least_seconds(run, clock=time.process_time if alone else time.perf_counter)


if __name__ == "__main__":
    print(json.dumps(measured_arithmetic()))
