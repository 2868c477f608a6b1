"""Probabilities of a case on disk: whole numbers in a compressed .npz, beside what they are probabilities of.

Two arrays: `probabilities`, uint8 or uint16 (k, z, y, x) in the axes of the image file, value = round(p · (2ⁿ - 1));
and `header`, a JSON text with version, bits, axes, the names and label values of the classes in their order, what
single objects are called where the classes are levels, and the grid. Where the k are regions that may overlap, the
header's `regions` have the name, the classes (indices) and the painted class of each. A probability read back is off by
at most half a step, 1 / (2 · (2ⁿ - 1)): 0.00196 for 8 bits, 0.0000076 for 16.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from msseg.data.geometry import Geometry, NiftiSpace
from msseg.errors import DatasetError
from msseg.files import atomic_path
from planning.errors import PlanError
from planning.instances import InstancePlan, read_instances
from planning.regions import Region, read_regions, validate_regions

PROBABILITIES_VERSION = 1
# Files of regions: a program that does not know them would take them for classes.
_REGIONS_VERSION = 2
ENDING = ".probabilities.npz"
_TYPES = {8: np.uint8, 16: np.uint16}
BITS = tuple(_TYPES)
_AXES = "class, z, y, x"
_VALUES, _HEADER = "probabilities", "header"
# Values that are turned into whole numbers and compressed at a time.
_BLOCK_VALUES = 1 << 20
# The strongest compression takes six times as long for a tenth less.
_COMPRESSION_LEVEL = 1


@dataclass(frozen=True)
class StoredProbabilities:
    """Probabilities as read: (k, z, y, x), float32, or the whole numbers of `read_stored`.

    `labels` has name and value of each class in their order.
    Where the classes are levels of objects, `instances` is the objects' name and value, else None. Where there are
    `regions`, the probabilities are theirs.
    """

    probabilities: np.ndarray
    geometry: Geometry
    labels: dict[str, int]
    bits: int
    instances: InstancePlan | None = None
    regions: tuple[Region, ...] = ()

    @property
    def largest_error(self) -> float:
        """How far a value may lie off what was written."""
        return 0.5 / (2**self.bits - 1)

    def called(self, name: str) -> np.ndarray | None:
        """The probability (z, y, x) of the class or region of that name, in small letters; None where none has it."""
        names = [region.name for region in self.regions] or list(self.labels)
        found = [index for index, one in enumerate(names) if one.lower() == name]
        return self.probabilities[found[0]] if found else None

    def foreground(self) -> np.ndarray:
        """The probability (z, y, x) of all classes but the first together; of regions, which overlap, the largest."""
        whole: np.ndarray = self.probabilities.max(0) if self.regions else 1 - self.probabilities[0]
        return whole


def probabilities_path(name: str, folder: Path) -> Path:
    """Where the probabilities of the case called `name` lie."""
    return Path(folder) / f"{name}{ENDING}"


def write_probabilities(
    path: Path,
    probabilities: np.ndarray,
    geometry: Geometry,
    labels: Mapping[str, int],
    bits: int = 16,
    instances: InstancePlan | None = None,
    regions: Sequence[Region] = (),
) -> None:
    """Write probabilities (k, z, y, x) of the classes `labels` (names and values in their order), atomically.

    `instances` are the objects whose levels the classes are; the probabilities are those of `regions`, where there are
    any. Beside the probabilities memory is needed for a block only. ValueError where shapes, labels or regions do not
    belong together, or for `bits` other than 8 and 16.
    """
    if bits not in _TYPES:
        raise ValueError(f"bits={bits}, expected one of {BITS}")
    if len(regions or labels) != len(probabilities):
        found = f"regions {', '.join(one.name for one in regions)}" if regions else f"labels {dict(labels)}"
        raise ValueError(f"{found} for {len(probabilities)} classes")
    if probabilities.shape[1:] != tuple(geometry.shape):
        raise ValueError(f"probabilities of shape {probabilities.shape[1:]} on a grid of {geometry.shape}")
    header = {
        "version": _REGIONS_VERSION if regions else PROBABILITIES_VERSION,
        "bits": bits,
        "axes": _AXES,
        "classes": [[name, int(value)] for name, value in labels.items()],
        "instances": None if instances is None else asdict(instances),
        "geometry": asdict(geometry),
        **({"regions": [asdict(region) for region in regions]} if regions else {}),
    }
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive,
    ):
        with archive.open(f"{_HEADER}.npy", "w") as stream:
            np.lib.format.write_array(stream, np.array(json.dumps(header, allow_nan=False)), allow_pickle=False)
        with archive.open(f"{_VALUES}.npy", "w", force_zip64=True) as stream:
            _write_values(stream, probabilities, bits)


def read_probabilities(path: Path) -> StoredProbabilities:
    """The probabilities in `path`. Raises DatasetError where it is missing, damaged, or not of this kind or version."""
    stored = read_stored(path)
    probabilities = stored.probabilities.astype(np.float32)
    probabilities *= np.float32(1 / (2**stored.bits - 1))
    return replace(stored, probabilities=probabilities)


def read_stored(path: Path) -> StoredProbabilities:
    """The same with the whole numbers that are stored, uint8 or uint16, which take a part of the memory."""
    header, values = _read_arrays(Path(path))
    try:
        version, bits = header["version"], header["bits"]
        labels = {str(name): int(value) for name, value in header["classes"]}
        grid, instances = header["geometry"], read_instances(header["instances"], "instances")
        regions = read_regions(header.get("regions", []), "regions")
        validate_regions(regions, len(labels), "regions")
    except (KeyError, TypeError, ValueError, PlanError):
        raise _not_ours(path, "its header lacks something") from None
    expected = _REGIONS_VERSION if regions else PROBABILITIES_VERSION
    if version != expected:
        raise DatasetError(f"{path}: version {version}, expected {expected}. Use the msseg that wrote it.")
    geometry = _geometry(path, grid)
    if bits not in _TYPES or values.dtype != _TYPES[bits]:
        raise _not_ours(path, f"values of type {values.dtype} for {bits} bits")
    of = f"{len(regions)} regions" if regions else f"{len(labels)} classes"
    if values.shape != (len(regions or labels), *geometry.shape):
        raise _not_ours(path, f"values of shape {values.shape} for {of} on a grid of {geometry.shape}")
    return StoredProbabilities(values, geometry, labels, bits, instances, regions)


def _write_values(stream: IO[bytes], probabilities: np.ndarray, bits: int) -> None:
    dtype, steps = np.dtype(_TYPES[bits]).newbyteorder("<"), np.float32(2**bits - 1)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": probabilities.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for volume in probabilities:
        flat = np.ascontiguousarray(volume).reshape(-1)
        for start in range(0, flat.size, _BLOCK_VALUES):
            block = np.clip(flat[start : start + _BLOCK_VALUES], 0, 1) * steps
            stream.write(np.rint(block, out=block).astype(dtype).tobytes())


def _read_arrays(path: Path) -> tuple[Any, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return json.loads(str(archive[_HEADER])), archive[_VALUES]
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file. Predict the case with msseg_predict --save-probabilities first."
        ) from None
    except (KeyError, TypeError, AttributeError):
        raise _not_ours(path, "it lacks one of its arrays") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, OSError) as problem:
        raise _not_ours(path, str(problem) or type(problem).__name__) from None


def _geometry(path: Path, grid: Any) -> Geometry:
    known = {field.name for field in fields(Geometry)}
    try:
        values = {name: _tuples(value) for name, value in grid.items() if name in known and name != "nifti"}
        nifti = grid.get("nifti")
        space = None if nifti is None else NiftiSpace(**{name: _tuples(value) for name, value in nifti.items()})
        return Geometry(**values, nifti=space)
    except (TypeError, AttributeError):
        raise _not_ours(path, "its grid lacks something") from None


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _not_ours(path: Path, found: str) -> DatasetError:
    return DatasetError(
        f"{path}: no whole file of probabilities ({found}); expected one of msseg_predict --save-probabilities. "
        "Predict the case again."
    )
