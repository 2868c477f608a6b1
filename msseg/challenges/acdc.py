"""ACDC: the heart's chambers in short-axis cine MR, two labelled moments a patient.

Layout of humanheart-project.creatis.insa-lyon.fr/database: `training/patient001/Info.cfg` names the frames of end
diastole and end systole (`ED: 1`, `ES: 12`), `patient001_frame01.nii.gz` is the first of them and
`patient001_frame01_gt.nii.gz` its label; `testing/patient101/…`, whose labels came later. A case is called by its
moment, as submissions are: `patient001_ED`.
"""

from __future__ import annotations

import re
from pathlib import Path

from msseg.challenges.acdc_submission import check, recognise, write
from msseg.challenges.case_folders import folders_below, missing, other_layout, says_test, volume
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import volume_listing
from msseg.challenges.source import Listing, Source
from msseg.data.problems import Problem

_PATIENT = re.compile(r"patient\d{3}")
_GROUP = r"^(patient\d+)"
_INFO = "Info.cfg"
_MOMENTS = ("ED", "ES")
_CHANNELS = ("MRI",)
_LABELS = {"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3}


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """Both moments of every patient below the folder; of a patient of `testing`, a label is not needed."""
    patients = [folder for folder in folders_below(source) if _PATIENT.fullmatch(folder.name)]
    if not patients:
        raise other_layout(source, f"patient001/{_INFO} in it, or in training/ and testing/")
    found = [one for patient in patients for one in _moments(patient, says_test(patient, source))]
    labels = options.labels or _LABELS
    return volume_listing(found, _CHANNELS, labels, extras={"group_by": _GROUP})


def frames_of(patient: Path) -> dict[str, int]:
    """The number of the frame of each moment, by a patient's Info.cfg; without those that it does not name."""
    info = patient / _INFO
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    entries = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
    return {moment: int(entries[moment]) for moment in _MOMENTS if entries.get(moment, "").isdecimal()}


def _moments(patient: Path, is_test: bool) -> list[Source | Problem]:
    frames = frames_of(patient)
    return [_source(patient, moment, frames.get(moment), is_test) for moment in _MOMENTS]


def _source(patient: Path, moment: str, frame: int | None, is_test: bool) -> Source | Problem:
    name = f"{patient.name}_{moment}"
    if frame is None:
        return missing(name, patient / _INFO, f"frame of {moment}", "Copy the file again.")
    stem = patient / f"{patient.name}_frame{frame:02d}"
    image, label = volume(stem), volume(stem.with_name(f"{stem.name}_gt"))
    if image is None:
        return missing(name, stem.with_name(f"{stem.name}.nii.gz"), "image", "Copy it again.")
    if label is None and not is_test:
        return missing(name, stem.with_name(f"{stem.name}_gt.nii.gz"), "label", "Copy it again.")
    return Source(name, image, label, is_test)


ACDC = Challenge(
    name="acdc",
    title="ACDC, heart chambers in cine MR",
    url="https://www.creatis.insa-lyon.fr/Challenge/acdc",
    list_cases=list_cases,
    write=write,
    check=check,
    recognise=recognise,
)
