"""What the names in nnU-Net's checkpoints stand for: tensors not yet read, numpy's numbers, plain containers.

The table is what real files of nnU-Net 2 hold: weights and the optimiser's state, numpy scalars in the log, the device
and the plans among the trainer's arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from msseg.nnunet.opcodes import Global, Name, RefusedError, Stateful

_MOST_AXES = 8


@dataclass(frozen=True)
class StorageRef:
    """`elements` numbers of a type under a key of the archive."""

    key: str
    dtype: torch.dtype
    elements: int


@dataclass(frozen=True)
class TensorRef:
    """A view of a stored array; offset and stride count elements. It lies inside its storage and is not larger."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class NumpyType(Stateful):
    """A numpy type of plain numbers by its code, such as f4, and its byte order."""

    code: str
    order: str = "<"

    def with_state(self, state: Any) -> NumpyType:
        """The type with the byte order of a state that says nothing more."""
        plain = isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", "|", "=")
        if not plain or any(part is not None for part in state[2:5]):
            raise RefusedError("a numpy type of more than plain numbers")
        return self


STORAGES: dict[Name, torch.dtype] = {
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "IntStorage"): torch.int32,
    ("torch", "ShortStorage"): torch.int16,
    ("torch", "CharStorage"): torch.int8,
    ("torch", "ByteStorage"): torch.uint8,
    ("torch", "BoolStorage"): torch.bool,
}
_NUMPY_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def storage_ref(value: Any) -> StorageRef:
    """The stored array that a persistent id means: ("storage", type, key, device, number of elements)."""
    if not isinstance(value, tuple) or len(value) != 5 or value[0] != "storage" or type(value[1]) is not Global:
        raise RefusedError("a reference outside the pickle that is not to a tensor's numbers")
    dtype, key, elements = STORAGES.get(value[1].name), value[2], value[4]
    if dtype is None or not isinstance(key, str) or not _is_count(elements):
        raise RefusedError("a stored array without type, key or length")
    return StorageRef(key, dtype, elements)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _tensor(arguments: tuple[Any, ...]) -> TensorRef:
    if len(arguments) < 4 or not isinstance(arguments[0], StorageRef):
        raise RefusedError("a tensor without its numbers")
    storage, offset, shape, stride = arguments[:4]
    if not all(isinstance(one, tuple) and all(map(_is_count, one)) for one in (shape, stride)) or not _is_count(offset):
        raise RefusedError("a tensor whose shape is not of whole numbers")
    if len(shape) != len(stride) or len(shape) > _MOST_AXES:
        raise RefusedError(f"a tensor of {len(shape)} axes and {len(stride)} strides")
    reach = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if math.prod(shape) > storage.elements or (math.prod(shape) and reach >= storage.elements):
        raise RefusedError(
            f"a tensor of shape {list(shape)} that does not fit into its {storage.elements} stored numbers"
        )
    return TensorRef(storage, offset, shape, stride)


def _parameter(arguments: tuple[Any, ...]) -> TensorRef:
    if not arguments or not isinstance(arguments[0], TensorRef):
        raise RefusedError("a parameter without its tensor")
    return arguments[0]


def _empty_dictionary(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise RefusedError("an ordered dictionary made from something else")
    return {}


def _device(arguments: tuple[Any, ...]) -> str:
    """The device that was trained on, such as cuda:0, as a text."""
    return ":".join(str(part) for part in arguments if isinstance(part, (str, int)))


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    if len(arguments) != 1 or not isinstance(arguments[0], tuple) or not all(map(_is_count, arguments[0])):
        raise RefusedError("a shape that is not of whole numbers")
    return arguments[0]


def _numpy_type(arguments: tuple[Any, ...]) -> NumpyType:
    if not arguments or arguments[0] not in _NUMPY_CODES:
        raise RefusedError("a numpy type of other things than numbers")
    return NumpyType(arguments[0])


def _numpy_number(arguments: tuple[Any, ...]) -> int | float | bool:
    if len(arguments) != 2 or not isinstance(arguments[0], NumpyType) or not isinstance(arguments[1], bytes):
        raise RefusedError("a numpy number without type or bytes")
    kind, stored = arguments
    dtype = np.dtype(kind.code).newbyteorder(kind.order)
    if len(stored) != dtype.itemsize:
        raise RefusedError(f"a numpy number of {len(stored)} bytes for the type {kind.code}")
    number: int | float | bool = np.frombuffer(stored, dtype)[0].item()
    return number


def _latin_1(arguments: tuple[Any, ...]) -> bytes:
    """Bytes, which protocol 2 writes as a text."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in ("latin1", "latin-1"):
        raise RefusedError("an encoding of other things than bytes")
    return arguments[0].encode("latin-1")


def _never_called(arguments: tuple[Any, ...]) -> Any:
    raise RefusedError("a call of a type of stored numbers")


VALUES: dict[Name, Callable[[tuple[Any, ...]], Any]] = {
    **dict.fromkeys(STORAGES, _never_called),
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "device"): _device,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _empty_dictionary,
    ("numpy", "dtype"): _numpy_type,
    ("numpy.core.multiarray", "scalar"): _numpy_number,  # before numpy 2
    ("numpy._core.multiarray", "scalar"): _numpy_number,
    ("_codecs", "encode"): _latin_1,
}
