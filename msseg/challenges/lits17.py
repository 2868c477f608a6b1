"""LiTS17: livers and their tumours in CT, flat files by number.

Layout of competitions.codalab.org/competitions/17094: `volume-0.nii` to `volume-130.nii` with `segmentation-0.nii`, …,
in two batches of training, and `test-volume-0.nii` to `test-volume-69.nii`. Copies elsewhere sort them into other
folders, so that the names alone count.
"""

from __future__ import annotations

import re
from pathlib import Path

from msseg.challenges.case_folders import folders_below, missing, other_layout
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import volume_listing
from msseg.challenges.lits17_submission import check, recognise, write
from msseg.challenges.source import Listing, Source
from msseg.data.cases import case_name, list_images
from msseg.data.problems import Problem

_FILE = re.compile(r"(?P<kind>volume|segmentation|test-volume)-(?P<number>\d+)\.nii(\.gz)?")
_CHANNELS = ("CT",)
_LABELS = {"liver": 1, "tumour": 2}


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """The volumes by number, wherever below the folder they lie."""
    images: list[Path] = []
    labels: list[Path] = []
    for folder in folders_below(source):
        for path in list_images(folder):
            match = _FILE.fullmatch(path.name)
            if match:
                (labels if match["kind"] == "segmentation" else images).append(path)
    if not images and not labels:
        raise other_layout(source, "volume-0.nii and segmentation-0.nii, in it or in folders below")
    by_name = {case_name(path).replace("segmentation", "volume"): path for path in labels}
    found = [_source(path, by_name.get(case_name(path))) for path in images]
    alone = by_name.keys() - {case_name(path) for path in images}
    found += [missing(name, by_name[name], f"{name}.nii", "Copy the image too.") for name in sorted(alone)]
    return volume_listing(found, _CHANNELS, options.labels or _LABELS)


def _source(image: Path, label: Path | None) -> Source | Problem:
    name = case_name(image)
    is_test = name.startswith("test-")
    if label is None and not is_test:
        return missing(name, image, f"{name.replace('volume', 'segmentation')}.nii", "Copy the label too.")
    return Source(name, image, label, is_test)


LITS17 = Challenge(
    name="lits17",
    title="LiTS17, liver tumours in CT",
    url="https://competitions.codalab.org/competitions/17094",
    list_cases=list_cases,
    write=write,
    check=check,
    recognise=recognise,
)
