"""How fast one thread of this machine reads, measures, prepares, augments and writes images, by our own functions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.cases import Case
from msseg.data.checks import check_case
from msseg.data.geometry import Geometry
from msseg.data.image import read_image, read_label, write_image, write_label
from msseg.data.labels import LabelMap
from msseg.data.store import write_case
from msseg.evaluation.overlap import confusion_matrix
from msseg.evaluation.surface import surface_metrics, surface_voxels
from msseg.files import content_hash, write_json
from msseg.inference.export import resampled_labels
from msseg.machine.timing import least_seconds
from msseg.preprocessing.case import preprocess_case
from msseg.preprocessing.decoded import DecodedCase, decoded_cases, keep, recall
from msseg.preprocessing.locations import sample_locations
from msseg.preprocessing.measure import measure_case, object_sizes
from msseg.preprocessing.resample import resample_image, resample_label
from msseg.training.augmentation import AUGMENTATIONS, augmentation_named
from msseg.training.batches import BatchSource, make_batch, read_batch
from msseg.training.device_batches import finished
from planning.costs.machine import CaseRates
from planning.json_fields import as_json
from planning.overview import reference_configuration
from planning.plan import ChannelPlan, Plan

_EDGE = 96
_SMALL_EDGE = 12
_FILE_BYTES = 1 << 25
_CLASSES = 4
_PATCH_EDGE, _BATCHES = 40, 6
_SPACING_MM = (1.0, 1.0, 1.0)


def measured_cases(folder: Path) -> CaseRates:
    """The rates; `folder` is for the files that are written and read."""
    image, label = _image(_EDGE), _label(_EDGE)
    case = _written(folder, "large", image, label)
    read_s = least_seconds(lambda: read_image(case.image_paths)) + least_seconds(lambda: read_label(_label_path(case)))
    examine_s, components_s, prepare_s, locate_s = _preparation_seconds(case, image, label)
    grown = tuple(round(1.25 * edge) for edge in label.shape)
    rates: dict[str, Any] = {
        **_file_rates(folder),
        "examine_voxels_per_s": label.size / max(examine_s - read_s - components_s, 1e-3 * examine_s),
        "components_voxels_per_s": label.size / components_s,
        "keep_voxels_per_s": label.size / _keeping_s(folder, image, label),
        "normalise_voxels_per_s": label.size / max(prepare_s - locate_s, 1e-3 * prepare_s),
        "resample_voxels_per_s": np.prod(grown) / least_seconds(lambda: resample_image(image, grown, 3)),
        "label_vote_voxels_per_s": np.prod(grown) / least_seconds(lambda: resample_label(label, grown, 1)),
        "locate_voxels_per_s": label.size / locate_s,
        "score_voxels_per_s": _score_rate(label.shape, grown),
        "overlap_voxels_per_s": label.size / least_seconds(lambda: confusion_matrix(label, label, range(1, _CLASSES))),
        **_surface_rates(label),
        "case_overhead_s": _overhead_s(folder),
        **_augmentation_rates(folder),
    }
    return CaseRates(**rates)


def _preparation_seconds(case: Case, image: np.ndarray, label: np.ndarray) -> tuple[float, float, float, float]:
    """Seconds to check and measure a case from its files, to find its components, to prepare it, to locate classes."""
    labels = LabelMap(tuple(range(_CLASSES)))
    plan = _plan()
    configuration = plan.configurations["3d"]

    def examine() -> None:
        check_case(case, 1, labels)
        measure_case(case.name, image, label, _SPACING_MM, _CLASSES)

    return (
        least_seconds(examine),
        least_seconds(lambda: object_sizes(label, _CLASSES)),
        least_seconds(lambda: preprocess_case(image, label, _SPACING_MM, plan, configuration)),
        least_seconds(lambda: sample_locations(label)),
    )


def _keeping_s(folder: Path, image: np.ndarray, label: np.ndarray) -> float:
    """Seconds to keep a case between its check and its preparation, and to have it back."""
    case = DecodedCase(image, label, _SPACING_MM, "content")
    with decoded_cases(folder, 1, 2 * image.nbytes) as decoded:

        def both() -> None:
            keep(decoded, "kept", case)
            recall(decoded, "kept")

        return least_seconds(both)


def _file_rates(folder: Path) -> dict[str, float]:
    noise = np.random.default_rng(0).integers(0, 256, _FILE_BYTES, np.uint8)
    plain = folder / "plain"
    write_s = least_seconds(lambda: plain.write_bytes(noise.data))
    rates = {
        "write_bytes_per_s": _FILE_BYTES / write_s,
        "read_bytes_per_s": _FILE_BYTES / least_seconds(plain.read_bytes),
        "hash_bytes_per_s": _FILE_BYTES / least_seconds(lambda: content_hash(plain)),
    }
    image, label = _image(_EDGE), _label(_EDGE)
    dense, sparse = _written(folder, "dense", image, label), _written(folder, "sparse", np.zeros_like(image), label)
    # Inflating costs by what goes in and by what comes out: two files, of noise and of nothing, tell the two apart.
    (dense_in, dense_s), (sparse_in, sparse_s) = (
        (one.image_paths[0].stat().st_size, least_seconds(partial(read_image, one.image_paths)))
        for one in (dense, sparse)
    )
    out = image.nbytes // 2  # stored as int16
    from_s = max(dense_s - sparse_s, 0.05 * dense_s) / (dense_in - sparse_in)
    target = folder / "again.nii.gz"
    geometry = _geometry(label.shape)
    return {
        **rates,
        "gunzip_from_bytes_per_s": 1 / from_s,
        "gunzip_to_bytes_per_s": out / sparse_s,
        "gzip_label_bytes_per_s": label.nbytes / least_seconds(lambda: write_label(target, label, geometry)),
    }


def _score_rate(old: Sequence[int], new: Sequence[int]) -> float:
    """Scores on the image's grid a second: interpolated, and the best class taken."""
    import torch

    scores = torch.randn((_CLASSES, *old), generator=torch.Generator().manual_seed(0))
    return _CLASSES * float(np.prod(new)) / least_seconds(lambda: resampled_labels(scores, new, 1))


def _surface_rates(label: np.ndarray) -> dict[str, float]:
    """Voxels a second of the box around a label, and surface voxels a second of those that are apart."""
    reference = label > 0
    box = tuple(slice(min(indices), max(indices) + 2) for indices in np.nonzero(reference))
    reference = np.ascontiguousarray(reference[box])
    prediction = np.roll(reference, 1, axis=0)
    equal_s = least_seconds(lambda: surface_metrics(reference, reference, _SPACING_MM))
    apart_s = least_seconds(lambda: surface_metrics(prediction, reference, _SPACING_MM))
    found = np.count_nonzero(surface_voxels(reference))
    return {
        "box_voxels_per_s": reference.size / equal_s,
        "surface_voxels_per_s": found / max(apart_s - equal_s, 0.05 * apart_s),
    }


def _overhead_s(folder: Path) -> float:
    """What a case takes that is too small to take anything else: opening, headers, JSON, renaming."""
    image, label = _image(_SMALL_EDGE), _label(_SMALL_EDGE)
    case = _written(folder, "small", image, label)
    plan = _plan()

    def both() -> None:
        check_case(case, 1, LabelMap(tuple(range(_CLASSES))))
        measured = measure_case(case.name, image, label, _SPACING_MM, _CLASSES)
        write_json(folder / "measured.json", as_json(measured))
        read_image(case.image_paths)
        read_label(_label_path(case))
        prepared = preprocess_case(image, label, _SPACING_MM, plan, plan.configurations["3d"])
        write_case(folder, case.name, prepared.image, prepared.label, prepared.locations, prepared.properties, "key")

    return least_seconds(both)


def _augmentation_rates(folder: Path) -> dict[str, dict[str, float]]:
    """Values of finished patches a second, by augmentation; reading them included."""
    import torch

    cpu = torch.device("cpu")
    write_case(folder, "stored", _image(_EDGE), _label(_EDGE), sample_locations(_label(_EDGE)), {}, "key")
    makers: dict[str, Callable[[BatchSource, int], object]] = {
        "augmented_values_per_s": make_batch,
        "torch_augmented_values_per_s": lambda source, index: finished(read_batch(source, index), cpu),
    }
    return {
        kind: {name: _augmentation_rate(folder, name, make) for name in AUGMENTATIONS} for kind, make in makers.items()
    }


def _augmentation_rate(folder: Path, name: str, make: Callable[[BatchSource, int], object]) -> float:
    edge = (_PATCH_EDGE,) * 3
    source = BatchSource(folder, ("stored",), edge, 1, 0, augmentation=augmentation_named(name), mirror_axes=(0, 1, 2))

    def batches() -> None:
        for index in range(_BATCHES):
            make(source, index)

    return _BATCHES * float(np.prod(edge)) / least_seconds(batches, repeats=1)


def _image(edge: int) -> np.ndarray:
    """A volume (1, z, y, x) with noise, of integers as scanners store them."""
    z, y, x = np.indices((edge,) * 3, dtype=np.float32)
    smooth = 200 * np.sin(z / 9) * np.sin(y / 7) * np.sin(x / 8)
    return np.rint(smooth + np.random.default_rng(1).normal(0, 20, smooth.shape)).astype(np.float32)[None]


def _label(edge: int) -> np.ndarray:
    """Balls of class 1, 2 and 3 beside each other."""
    z, y, x = np.indices((edge,) * 3) / edge
    label = np.zeros((edge,) * 3, np.uint8)
    for index in range(1, _CLASSES):
        label[(z - 0.5) ** 2 + (y - 0.5) ** 2 + (x - 0.25 * index) ** 2 < 0.2**2] = index
    return label


def _written(folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> Case:
    paths = folder / f"{name}_0000.nii.gz", folder / f"{name}_label.nii.gz"
    geometry = _geometry(label.shape)
    write_image(paths[0], image.astype(np.int16), geometry)
    write_label(paths[1], label, geometry)
    return Case(name, (paths[0],), paths[1])


def _label_path(case: Case) -> Path:
    assert case.label_path is not None
    return case.label_path


def _geometry(shape: Sequence[int]) -> Geometry:
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    depth, height, width = shape
    return Geometry((depth, height, width), _SPACING_MM, (0.0, 0.0, 0.0), axes)


def _plan() -> Plan:
    configuration = reference_configuration(3)
    return Plan(
        dataset_name="measured",
        channels=(ChannelPlan("MRI", "zscore", False, lower=0.0, upper=1.0, mean=0.0, std=1.0),),
        labels={str(value): value for value in range(_CLASSES)},
        axis_order=(0, 1, 2),
        class_weights=(1 / _CLASSES,) * _CLASSES,
        configurations={"3d": configuration},
        default_configuration="3d",
        memory_bytes=1,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(asdict(measured_cases(Path(temporary)))))
