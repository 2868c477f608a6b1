"""KiTS19 and KiTS23: kidneys and their tumours in CT, a folder a case.

Layouts: github.com/neheller/kits19 (`data/case_00000/imaging.nii.gz`, `segmentation.nii.gz`; 210 training cases and
90 without a label) and github.com/neheller/kits23 (`dataset/case_00000/…`, 489 training cases; cysts beside tumours).
The slices lie along the first stored axis, and stay there.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from msseg.challenges.case_folders import missing, other_layout, volume
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import volume_listing
from msseg.challenges.kits19_submission import check, recognise, write
from msseg.challenges.source import Listing, Source
from msseg.data.problems import Problem

_FOLDERS = ("data", "dataset", ".")
_CASE = re.compile(r"case_(\d{5})")
_IMAGE, _LABEL = "imaging", "segmentation"
_CHANNELS = ("CT",)
_LABELS_19 = {"kidney": 1, "tumour": 2}
_LABELS_23 = {"kidney": 1, "tumour": 2, "cyst": 3}
_FIRST_TEST_19 = 210


def list_cases(source: Path, options: ConversionOptions, labels: dict[str, int], first_test: int | None) -> Listing:
    """The `case_NNNNN` of the repository's data folder; those from `first_test` on have no label."""
    folder = next((source / name for name in _FOLDERS if _cases(source / name)), source)
    found = [_source(case, first_test) for case in _cases(folder)]
    if not found:
        raise other_layout(source, f"case_00000/{_IMAGE}.nii.gz in it, or in {_FOLDERS[0]}/ or {_FOLDERS[1]}/")
    return volume_listing(found, _CHANNELS, options.labels or labels)


def _cases(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _CASE.fullmatch(path.name)) if folder.is_dir() else []


def _source(case: Path, first_test: int | None) -> Source | Problem:
    image, label = volume(case / _IMAGE), volume(case / _LABEL)
    if image is None:
        remedy = "The repository holds labels only: download the images with its script."
        return missing(case.name, case / f"{_IMAGE}.nii.gz", "image", remedy)
    is_test = first_test is not None and int(case.name.removeprefix("case_")) >= first_test
    if label is None and not is_test:
        return missing(case.name, case / f"{_LABEL}.nii.gz", "label", "Copy it again.")
    return Source(case.name, image, label, is_test)


KITS19 = Challenge(
    name="kits19",
    title="KiTS19, kidney tumours in CT",
    url="https://kits19.grand-challenge.org",
    list_cases=partial(list_cases, labels=_LABELS_19, first_test=_FIRST_TEST_19),
    write=write,
    check=check,
    recognise=recognise,
)
KITS23 = Challenge(
    name="kits23",
    title="KiTS23, kidney tumours and cysts in CT",
    url="https://kits-challenge.org/kits23",
    list_cases=partial(list_cases, labels=_LABELS_23, first_test=None),
)
