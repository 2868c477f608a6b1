"""An encoder that starts from weights trained elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from msseg.errors import MssegError
from msseg.files import content_hash
from msseg.networks.encoder_weights import load_encoder_weights


def start_encoder(network: nn.Module, path: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Copy the weights in `path` into the network's encoder; what was read, for the checkpoint."""
    record = weights_record(path)
    names = load_encoder_weights(network, path)
    report(f"{path}: {len(names)} tensors of the encoder start from it")
    return record


def weights_record(path: Path) -> dict[str, Any]:
    """The name and the hash of a file of weights; MssegError where it is missing."""
    if not path.is_file():
        raise MssegError(f"--encoder-weights {path}: no such file. Give a safetensors or torch file of weights.")
    return {"file": path.name, "hash": content_hash(path)}
