"""The store: one file a prepared case, of which a patch is read without the rest.

A case is a safetensors file `NAME.safetensors` with the tensors `image`, `label` and `locations.CLASS` and, in its
header's metadata, the JSON of the case's properties and its key. Arrays lie uncompressed, so that the file maps into
memory. It is written under another name and renamed: a half-written case is never seen. docs/preprocessing.md has
the measurements that decided for this format.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from msseg.errors import DatasetError
from msseg.files import atomic_path

ENDING = ".safetensors"
ANNOTATED = 0  # among the locations: of voxels of any class, where some voxels are not annotated
FORMAT_VERSION = 1
_FORMAT = f"msseg case {FORMAT_VERSION}"
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 64
_CODES = {"float32": "F32", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32"}
_DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in _CODES.items()}


@dataclass(frozen=True)
class StoredCase:
    """A case in the store; its arrays are views of the file, read as they are touched, and read-only.

    `image` is (c, z, y, x) float32, `label` (z, y, x) or None, `locations` per class voxel indices (n, d) int32, and
    under `ANNOTATED` of any class where some voxels are ignored.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None
    locations: dict[int, np.ndarray]
    properties: dict[str, Any]
    key: str


def write_case(
    folder: Path,
    name: str,
    image_czyx: np.ndarray,
    label_zyx: np.ndarray | None,
    locations: dict[int, np.ndarray],
    properties: dict[str, Any],
    key: str,
) -> Path:
    """The path of the file that now holds the case, whatever held it before.

    `key` says what the case was made from (`case_key` gives it back); a label is stored in the smallest type that
    holds its values.
    """
    arrays = {"image": np.ascontiguousarray(image_czyx, np.float32)}
    for index, voxels in sorted(locations.items()):
        arrays[f"locations.{index}"] = np.ascontiguousarray(voxels, np.int32)
    if label_zyx is not None:  # last, because its odd number of bytes would shift what follows off its alignment
        arrays["label"] = np.ascontiguousarray(label_zyx, _smallest_dtype(label_zyx))
    metadata = {"format": _FORMAT, "key": key, "properties": json.dumps(properties)}
    path = _case_path(folder, name)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        _write_tensors(stream, arrays, metadata)
    return path


def open_case(folder: Path, name: str) -> StoredCase:
    """The case `name`, mapped into memory: nothing but the header is read here.

    Raises DatasetError where it is missing or was not written by this program.
    """
    path = _case_path(folder, name)
    header, start = _read_header(path)
    metadata = header["__metadata__"]
    content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    arrays = {tensor: _view(content, start, entry) for tensor, entry in header.items() if tensor != "__metadata__"}
    return StoredCase(
        name=name,
        image=arrays["image"],
        label=arrays.get("label"),
        locations={
            int(tensor.removeprefix("locations.")): array
            for tensor, array in arrays.items()
            if tensor.startswith("locations.")
        },
        properties=json.loads(metadata["properties"]),
        key=metadata["key"],
    )


def read_patch(stored: StoredCase, lower: Sequence[int], upper: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Copies of image (c, *patch) and label (*patch) between the voxels `lower` and `upper`, both inside the case.

    Reads the patch alone, not the case.
    """
    box = tuple(slice(start, stop) for start, stop in zip(lower, upper, strict=True))
    label = None if stored.label is None else np.array(stored.label[box])
    all_channels = (slice(None), *box)
    return np.array(stored.image[all_channels]), label


def case_key(folder: Path, name: str) -> str | None:
    """The key that the case was written with, or None where it is not in the store (or not readable)."""
    try:
        header, _ = _read_header(_case_path(folder, name))
    except DatasetError:
        return None
    return header["__metadata__"]["key"]


def stored_names(folder: Path) -> list[str]:
    """The names of the cases in the store, sorted; none where the folder does not exist."""
    return sorted(path.name.removesuffix(ENDING) for path in Path(folder).glob(f"[!.]*{ENDING}"))


def remove_case(folder: Path, name: str) -> None:
    """Take the case out of the store, if it is there."""
    _case_path(folder, name).unlink(missing_ok=True)


def _case_path(folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}{ENDING}"


def _smallest_dtype(label: np.ndarray) -> np.dtype:
    lowest, highest = int(label.min(initial=0)), int(label.max(initial=0))
    candidates = (np.dtype(name) for name in ("uint8", "int8", "int16", "int32"))
    return next(d for d in candidates if np.iinfo(d).min <= lowest and highest <= np.iinfo(d).max)


def _write_tensors(stream: BinaryIO, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """A safetensors file, written array by array: the library's own writer copies all of it in memory first."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-(len(text) + _LENGTH.size) % _ALIGNMENT)
    stream.write(_LENGTH.pack(len(text)))
    stream.write(text)
    for array in arrays.values():
        stream.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and the offset of the first array."""
    try:
        with path.open("rb") as stream:
            (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
            header = json.loads(stream.read(min(length, path.stat().st_size)))
        metadata = header["__metadata__"]
        end = max(entry["data_offsets"][1] for name, entry in header.items() if entry is not metadata)
        if metadata["format"] != _FORMAT or path.stat().st_size != _LENGTH.size + length + end:
            raise ValueError
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such case. Run msseg_plan_and_preprocess.") from None
    except (struct.error, ValueError, KeyError, TypeError):
        raise DatasetError(f"{path}: not a prepared case. Delete it and run msseg_plan_and_preprocess again.") from None
    return header, _LENGTH.size + length


def _view(content: np.ndarray, start: int, entry: dict[str, Any]) -> np.ndarray:
    first, last = (start + offset for offset in entry["data_offsets"])
    return content[first:last].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
