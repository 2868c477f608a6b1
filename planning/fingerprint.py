"""The fingerprint: what the planner knows of a data set, as plain numbers.

Axes are (z, y, x) as stored in the files, before any transposition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from planning.errors import PlanError
from planning.instances import InstancePlan, read_instances
from planning.json_fields import (
    as_json,
    at_least,
    flag,
    integer,
    mapping,
    not_negative,
    number,
    one_of,
    optional,
    positive,
    record,
    refuse,
    sequence,
    text,
)
from planning.regions import Region, read_regions, validate_regions

FINGERPRINT_VERSION = 1
# What is not written where it says nothing: fingerprints without these stay what they were, to the byte.
_RARE: dict[str, Any] = {"ignore": None, "regions": []}


@dataclass(frozen=True)
class IntensityStatistics:
    """Foreground intensities of one channel, every case weighing the same."""

    mean: float
    std: float
    median: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True)
class CaseFingerprint:
    """One training case; the per-class tuples start with class 1 (the background is not an object).

    `contrast` is how far the mean of the foreground lies above that of the background, in standard deviations of the
    image, mean over the channels; measured in single slices that have both. `annotated_voxels` are those of the cropped
    image that are not ignored, None where none is.
    """

    name: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    cropped_shape: tuple[int, ...]
    voxels_per_class: tuple[int, ...] = ()
    components_per_class: tuple[int, ...] = ()
    object_sizes_mm3: tuple[tuple[float, ...], ...] = ()
    contrast: float | None = None
    annotated_voxels: int | None = None

    @property
    def annotated_share(self) -> float:
        """The part of the cropped image that is annotated, 1 where all is or nothing is."""
        return (self.annotated_voxels or math.prod(self.cropped_shape)) / math.prod(self.cropped_shape)


@dataclass(frozen=True)
class Fingerprint:
    """A data set as measured; `labels` maps names to the values in the files, background first.

    Where the files number objects, `instances` names them and `labels` has the levels to learn with their indices.
    Where some image tells no size of its voxels, `has_spacing` is False and every one of them counts as 1 x 1 x 1.
    `label_pairs` are those that the data set declares, None where it says nothing; `lateral_axes` the axes along which
    its images run from side to side, read where labels have sides: one where all agree, none where it is not known.
    `ignore` is the files' value of voxels that nobody annotated, which are in no count; None where all are annotated.
    With `regions` networks learn those, not the labels.
    """

    dataset_name: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    cases: tuple[CaseFingerprint, ...]
    intensities: tuple[IntensityStatistics, ...]
    relative_size_after_crop: float
    instances: InstancePlan | None = None
    has_spacing: bool = True
    label_pairs: tuple[tuple[str, str], ...] | None = None
    lateral_axes: tuple[int, ...] = ()
    ignore: int | None = None
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class IntensitySketch:
    """Foreground intensities of one channel of one case, in bounded memory; `count` 0 means no foreground.

    `quantiles` are the intensities at `sketch_levels()`, the first and last being minimum and maximum.
    """

    count: int
    mean: float
    variance: float
    quantiles: tuple[float, ...]


# Intervals of a sketch: 46 of them lie below the 0.5th percentile and as many above the 99.5th.
SKETCH_INTERVALS = 1024


def sketch_levels() -> np.ndarray:
    """The cumulative frequencies of a sketch's quantiles, 0 to 1 and dense at both ends."""
    return (1 - np.cos(np.pi * np.arange(SKETCH_INTERVALS + 1) / SKETCH_INTERVALS)) / 2


def sketch_intensities(values: np.ndarray) -> IntensitySketch:
    """The sketch of a flat array of foreground intensities; an empty array gives a sketch of count 0.

    The quantiles are `np.quantile`'s, which takes several times as long to partition at a thousand places as to sort.
    """
    if values.size == 0:
        return IntensitySketch(0, 0.0, 0.0, ())
    places = sketch_levels() * (values.size - 1)
    quantiles = np.interp(places, np.arange(values.size), np.sort(values))
    mean, variance = values.mean(dtype=np.float64), values.var(dtype=np.float64)
    return IntensitySketch(int(values.size), float(mean), float(variance), tuple(quantiles.tolist()))


def mix_sketches(sketches: Sequence[IntensitySketch]) -> IntensityStatistics:
    """Statistics of the mixture in which every case with foreground weighs the same.

    It is what drawing an equal number of voxels from each case with replacement converges to. Raises PlanError where
    no case has foreground.
    """
    filled = [sketch for sketch in sketches if sketch.count > 0]
    if not filled:
        raise PlanError("fingerprint: no case has foreground voxels; expected labels above 0. Check the label files.")
    mean = math.fsum(sketch.mean for sketch in filled) / len(filled)
    square = math.fsum(sketch.variance + (sketch.mean - mean) ** 2 for sketch in filled) / len(filled)
    low, middle, high = _mixture_quantiles([sketch.quantiles for sketch in filled], (0.005, 0.5, 0.995))
    return IntensityStatistics(
        mean=mean,
        std=math.sqrt(square),
        median=middle,
        minimum=min(sketch.quantiles[0] for sketch in filled),
        maximum=max(sketch.quantiles[-1] for sketch in filled),
        percentile_00_5=low,
        percentile_99_5=high,
    )


def _mixture_quantiles(quantiles: Sequence[Sequence[float]], wanted: Sequence[float]) -> list[float]:
    """Quantiles of all order statistics together, each weighing the share of its case that it stands for."""
    levels = sketch_levels()
    shares = np.diff(levels, prepend=0.0, append=1.0)
    weights = np.tile((shares[:-1] + shares[1:]) / 2, len(quantiles))
    values = np.concatenate([np.asarray(one) for one in quantiles])
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    centres = np.cumsum(weights) - weights / 2
    return [float(value) for value in np.interp(np.asarray(wanted) * weights.sum(), centres, values)]


def summarise(
    dataset_name: str,
    channels: Sequence[str],
    labels: dict[str, int],
    cases: Sequence[CaseFingerprint],
    sketches: Sequence[Sequence[IntensitySketch]],
) -> Fingerprint:
    """The fingerprint of measured cases; `sketches[i]` are those of case i, one a channel."""
    shares = [math.prod(case.cropped_shape) / math.prod(case.shape) for case in cases]
    return Fingerprint(
        dataset_name=dataset_name,
        channels=tuple(channels),
        labels=dict(labels),
        cases=tuple(cases),
        intensities=tuple(mix_sketches([case[channel] for case in sketches]) for channel in range(len(channels))),
        relative_size_after_crop=float(np.median(shares)),
    )


def class_volumes_mm3(fingerprint: Fingerprint) -> tuple[float, ...] | None:
    """The volume of each class from 1 on over all cases, or None where the cases were not counted."""
    classes = len(fingerprint.labels) - 1
    if any(len(case.voxels_per_class) != classes for case in fingerprint.cases):
        return None
    return tuple(
        math.fsum(case.voxels_per_class[index] * math.prod(case.spacing_mm) for case in fingerprint.cases)
        for index in range(classes)
    )


def fingerprint_to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """The fingerprint as a JSON object with its version; without an ignore label or regions it has no such fields."""
    written = {"version": FINGERPRINT_VERSION, **as_json(fingerprint)}
    if fingerprint.ignore is None:
        for case in written["cases"]:
            del case["annotated_voxels"]
    return {name: value for name, value in written.items() if name not in _RARE or value != _RARE[name]}


def fingerprint_from_json(value: Any, source: str) -> Fingerprint:
    """The fingerprint in a JSON object, ours or one in the shape of the published KiTS19 one.

    `source` names the file in messages. Raises PlanError that names the field, what was found and what was expected.
    """
    if not isinstance(value, dict):
        raise refuse(source, value, "a fingerprint, a JSON object")
    fingerprint = _from_published(value, source) if "foreground_intensity" in value else _from_ours(value, source)
    _check(fingerprint, source)
    return fingerprint


def _from_ours(value: dict[str, Any], source: str) -> Fingerprint:
    version = value.get("version")
    if version != FINGERPRINT_VERSION:
        raise refuse(f"{source}: version", version, f"{FINGERPRINT_VERSION}; measure the data set again")
    return _read_fingerprint({name: one for name, one in value.items() if name != "version"}, source)


_shape = sequence(at_least(1))
_spacing = sequence(positive)
_read_case = record(
    CaseFingerprint,
    {
        "name": text,
        "shape": _shape,
        "spacing_mm": _spacing,
        "cropped_shape": _shape,
        "voxels_per_class": sequence(at_least(0)),
        "components_per_class": sequence(at_least(0)),
        "object_sizes_mm3": sequence(sequence(not_negative)),
        "contrast": optional(number),
        "annotated_voxels": optional(at_least(0)),
    },
)
_read_intensities = record(
    IntensityStatistics,
    {
        "mean": number,
        "std": not_negative,
        "median": number,
        "minimum": number,
        "maximum": number,
        "percentile_00_5": number,
        "percentile_99_5": number,
    },
)
_read_fingerprint = record(
    Fingerprint,
    {
        "dataset_name": text,
        "channels": sequence(text),
        "labels": mapping(integer),
        "cases": sequence(_read_case),
        "intensities": sequence(_read_intensities),
        "relative_size_after_crop": positive,
        "instances": read_instances,
        "has_spacing": flag,
        "label_pairs": optional(sequence(sequence(text))),
        "lateral_axes": sequence(one_of(0, 1, 2)),
        "ignore": optional(integer),
        "regions": read_regions,
    },
)

# Where the published shape keeps our statistics.
_PUBLISHED_INTENSITY_NAMES = {
    "mean": "mean",
    "std": "sd",
    "median": "median",
    "minimum": "mn",
    "maximum": "mx",
    "percentile_00_5": "percentile_00_5",
    "percentile_99_5": "percentile_99_5",
}


def _from_published(value: dict[str, Any], source: str) -> Fingerprint:
    """A fingerprint whose file tells its axis order in words and holds a single channel's statistics."""
    order = text(value.get("axis_order", "(z, y, x)"), f"{source}: axis_order")
    reverse = "(x, y, z)" in order
    if not reverse and "(z, y, x)" not in order:
        raise refuse(f"{source}: axis_order", order, "a text with (x, y, z) or (z, y, x)")
    channels = mapping(text)(value.get("channels"), f"{source}: channels")
    cases = sequence(lambda one, place: _published_case(one, place, reverse))(value.get("cases"), f"{source}: cases")
    found = mapping(number)(value["foreground_intensity"], f"{source}: foreground_intensity")
    statistics = {ours: found.get(theirs) for ours, theirs in _PUBLISHED_INTENSITY_NAMES.items()}
    return Fingerprint(
        dataset_name=text(value.get("name", PurePath(source).stem), f"{source}: name"),
        channels=tuple(channels.values()),
        labels=mapping(integer)(value.get("labels"), f"{source}: labels"),
        cases=cases,
        intensities=(_read_intensities(statistics, f"{source}: foreground_intensity"),),
        relative_size_after_crop=positive(
            value.get("size_reduction_by_nonzero_crop_median", 1.0),
            f"{source}: size_reduction_by_nonzero_crop_median",
        ),
    )


def _published_case(value: Any, place: str, reverse: bool) -> CaseFingerprint:
    if not isinstance(value, dict):
        raise refuse(place, value, "an object with shape and spacing_mm")
    step = -1 if reverse else 1
    shape = _shape(value.get("shape"), f"{place}.shape")[::step]
    spacing = _spacing(value.get("spacing_mm"), f"{place}.spacing_mm")[::step]
    return CaseFingerprint(text(value.get("name", place.rpartition(" ")[2]), f"{place}.name"), shape, spacing, shape)


def _check(fingerprint: Fingerprint, source: str) -> None:
    """Raise PlanError where the parts contradict each other."""
    if not fingerprint.cases:
        raise refuse(f"{source}: cases", [], "at least one case")
    if not fingerprint.channels or len(fingerprint.intensities) != len(fingerprint.channels):
        found = len(fingerprint.intensities)
        raise refuse(f"{source}: intensities", found, f"one entry for each of {len(fingerprint.channels)} channels")
    if len(fingerprint.labels) < 2 or len(set(fingerprint.labels.values())) != len(fingerprint.labels):
        raise refuse(f"{source}: labels", fingerprint.labels, "background and at least one class, with distinct values")
    validate_regions(fingerprint.regions, len(fingerprint.labels), f"{source}: regions")
    for index, case in enumerate(fingerprint.cases):
        for name in ("shape", "spacing_mm", "cropped_shape"):
            if len(getattr(case, name)) != 3:
                place = f"{source}: cases[{index}].{name}"
                raise refuse(place, list(getattr(case, name)), "three values (z, y, x)")
        if len(case.voxels_per_class) not in (0, len(fingerprint.labels) - 1):
            place = f"{source}: cases[{index}].voxels_per_class"
            raise refuse(place, len(case.voxels_per_class), f"none or {len(fingerprint.labels) - 1} values")
