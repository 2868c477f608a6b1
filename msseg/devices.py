"""Where the network runs, and in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msseg.errors import ResourceError

if TYPE_CHECKING:
    import torch

DEVICE_CHOICES = "auto|cpu|cuda|cuda:N|mps"


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA before MPS before the CPU.

    Raises ResourceError where the name is unknown or the machine has no such device.
    """
    import torch

    if name == "auto":
        return torch.device(_best_device())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ResourceError(f"--device {name}: unknown device; expected {DEVICE_CHOICES}.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ResourceError(f"--device {name}: this machine shows {found} CUDA devices. Use --device auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("--device mps: not available on this machine. Use --device auto or cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ResourceError(f"--device {name}: unsupported device; expected {DEVICE_CHOICES}.")
    return device


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The reduced precision that is faster on `device`, or None for float32.

    A CPU without native bfloat16 arithmetic emulates it slower than it computes float32.
    """
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return None


def _cpu_has_bfloat16() -> bool:
    """False also under a torch that cannot tell: the question is a private function, younger than torch 2.4."""
    import torch

    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return ask is not None and bool(ask())
