"""CHAOS: liver in CT; liver, kidneys and spleen in MR, as DICOM series with a PNG mask a slice.

Layout and grey values of chaos.grand-challenge.org/Data and doi 10.5281/zenodo.3431873, below `Train_Sets` and
`Test_Sets`: `CT/1/DICOM_anon/*.dcm` with `CT/1/Ground/liver_GT_000.png`, …; `MR/1/T1DUAL/DICOM_anon/InPhase` and
`OutPhase`, two images of one breath with one `T1DUAL/Ground`; `MR/1/T2SPIR/DICOM_anon` and `MR/1/T2SPIR/Ground`.
Channels and organs differ, so each is a data set.
A mask belongs to the slice whose file comes in the same place by name, wherever in the patient it lies. Anonymising
gave every slice a series of its own. Labels keep the middle grey of each organ, as submissions want them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from msseg.challenges.case_folders import folders_below, missing, other_layout, says_test
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.chaos_submission import check, recognise, write
from msseg.challenges.form import volume_listing
from msseg.challenges.source import Listing, Source, read_dicom_image
from msseg.data.cases import list_images
from msseg.data.dicom import slice_files
from msseg.data.geometry import Geometry
from msseg.data.image import read_label
from msseg.data.problems import FileError, Problem
from msseg.errors import DatasetError

_IMAGES, _MASKS = "DICOM_anon", "Ground"
# Organ: the grey that it is written with, and the lowest and highest that mean it.
_CT = {"liver": (255, 1, 255)}
_MR = {
    "liver": (63, 56, 70),
    "right_kidney": (126, 111, 135),
    "left_kidney": (189, 176, 200),
    "spleen": (252, 241, 255),
}


@dataclass(frozen=True)
class Sequence:
    """One of the three data sets: its folder, how its cases are called, folders and names of channels, and greys."""

    folder: str
    case: str
    series: tuple[str, ...]
    channels: tuple[str, ...]
    greys: dict[str, tuple[int, int, int]]


CT = Sequence("CT", "CT", (".",), ("CT",), _CT)
T1 = Sequence("T1DUAL", "T1DUAL", ("InPhase", "OutPhase"), ("T1_in_phase", "T1_out_phase"), _MR)
T2 = Sequence("T2SPIR", "T2SPIR", (".",), ("T2",), _MR)


def list_cases(source: Path, options: ConversionOptions, sequence: Sequence) -> Listing:
    """The patients of one sequence below the folder; those of a test set have no masks."""
    places = [folder for folder in folders_below(source) if folder.name == _IMAGES and _is_of(folder, sequence)]
    if not places:
        raise other_layout(source, f"{'CT/1' if sequence is CT else f'MR/1/{sequence.folder}'}/{_IMAGES} below it")
    found = [_source(place, sequence, says_test(place, source)) for place in places]
    labels = options.labels or {name: grey for name, (grey, _, _) in sequence.greys.items()}
    return volume_listing(
        found,
        sequence.channels,
        labels,
        read_image=partial(read_dicom_image, ignore_ids=True),
        read_label=partial(read_masks, greys=sequence.greys),
    )


def read_masks(
    source: Source, grid: Geometry, greys: dict[str, tuple[int, int, int]]
) -> tuple[np.ndarray, list[Problem]]:
    """The label (z, y, x) uint8 of the masks of a folder in the order of their slices' positions, and no notes."""
    assert source.label is not None
    masks, slices = list_images(source.label), slice_files(source.image, ignore_ids=True)
    if len(masks) != len(slices):
        remedy = "Copy the folder again: each slice has one mask."
        raise FileError(source.label, f"{len(masks)} masks", f"{len(slices)}, as there are slices", remedy)
    by_file = dict(zip(sorted(slices), masks, strict=True))
    label = np.empty(grid.shape, np.uint8)
    for place, file in enumerate(slices):
        label[place] = _read_mask(by_file[file], grid.shape[1:], greys)
    return label, []


def _read_mask(path: Path, shape: tuple[int, ...], greys: dict[str, tuple[int, int, int]]) -> np.ndarray:
    mask = read_label(path)[0][0]
    if mask.shape != shape:
        expected = f"{shape[1]} x {shape[0]} as the slices have"
        raise FileError(path, f"{mask.shape[1]} x {mask.shape[0]} pixels", expected, "Copy the folder again.")
    table = np.full(256, -1, np.int16)
    table[0] = 0
    for grey, lowest, highest in greys.values():
        table[lowest : highest + 1] = grey
    values = np.unique(mask)
    unknown = [int(value) for value in values if not 0 <= value <= 255 or table[value] < 0]
    if unknown:
        ranges = ", ".join(f"{name} {lowest} to {highest}" for name, (_, lowest, highest) in greys.items())
        raise FileError(path, f"grey values {', '.join(map(str, unknown[:8]))}", f"0, {ranges}", "Mend the mask.")
    return table[mask]


def _is_of(place: Path, sequence: Sequence) -> bool:
    parent = place.parent.parent if sequence is CT else place.parent
    return parent.name == sequence.folder


def _source(place: Path, sequence: Sequence, is_test: bool) -> Source | Problem:
    patient = place.parent.name if sequence is CT else place.parent.parent.name
    name, masks = f"{sequence.case}_{patient}", place.parent / _MASKS
    folders = [place / series for series in sequence.series]
    lacking = [folder for folder in folders if not folder.is_dir()]
    if lacking:
        return missing(name, lacking[0], f"folder {lacking[0].name}", "Copy both phases of the patient.")
    if not masks.is_dir() and not is_test:
        return missing(name, masks, f"folder {_MASKS}", "Copy the masks of the patient.")
    first, *further = folders
    return Source(name, first, masks if masks.is_dir() else None, is_test, further=tuple(further))


def _name_the_three(source: Path, options: ConversionOptions) -> NoReturn:
    raise DatasetError(
        f"{source}: CHAOS holds three data sets of different channels. Use --from chaos_ct, chaos_t1 or chaos_t2."
    )


CHAOS = Challenge(
    name="chaos",
    title="CHAOS, abdominal organs in CT and MR",
    url="https://chaos.grand-challenge.org",
    list_cases=_name_the_three,
    write=write,
    check=check,
    recognise=recognise,
)
CHAOS_CT = Challenge("chaos_ct", "CHAOS, liver in CT", CHAOS.url, partial(list_cases, sequence=CT))
CHAOS_T1 = Challenge("chaos_t1", "CHAOS, organs in T1 in and out of phase", CHAOS.url, partial(list_cases, sequence=T1))
CHAOS_T2 = Challenge("chaos_t2", "CHAOS, organs in T2", CHAOS.url, partial(list_cases, sequence=T2))
