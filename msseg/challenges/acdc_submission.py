"""ACDC's submission: a zip of `patient101_ED.nii.gz` and `patient101_ES.nii.gz`, … `patient150_ES.nii.gz`.

Source: https://www.creatis.insa-lyon.fr/Challenge/acdc/, of which the names of the zip are known from what participants
uploaded. The test images are named by frames, and `Info.cfg` beside them says which frame is the end of diastole (ED)
and which that of systole (ES).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from msseg.challenges.label_archive import LabelArchive, check_archive, recognise_archive, write_archive
from msseg.challenges.named_files import case_by
from msseg.errors import DatasetError

_PHASES = ("ED", "ES")
_CASES = tuple(f"patient{number}_{phase}" for number in range(101, 151) for phase in _PHASES)
_VALUES = (0, 1, 2, 3)  # background, right ventricle, myocardium, left ventricle
_INFORMATION = "Info.cfg"


def frames(images: Path) -> Mapping[str, str]:
    """`patient101_frame01` and the like with their cases, as `patient101/Info.cfg` says."""
    found: dict[str, str] = {}
    for path in sorted(images.rglob(_INFORMATION)):
        text = path.read_text(encoding="utf-8", errors="replace")
        for phase in _PHASES:
            match = re.search(rf"^\s*{phase}\s*:\s*(\d+)\s*$", text, re.MULTILINE)
            if match is None:
                raise DatasetError(f"{path}: no line {phase}: NUMBER; expected one. Unpack the challenge's data again.")
            found[f"{path.parent.name}_frame{int(match[1]):02d}"] = f"{path.parent.name}_{phase}"
    return found


_CASE = r"(?P<case>patient\d{3}_E[DS])"
ACDC_ARCHIVE = LabelArchive(
    case_of_member=case_by(rf"{_CASE}\.nii\.gz"),
    case_of_prediction=case_by(rf"(?:.*/)?{_CASE}"),
    case_of_image=case_by(rf"(?:.*/)?{_CASE}"),
    member_of="{}.nii.gz".format,
    labels=lambda case: _VALUES,
    example="patient101_ED.nii.gz",
    cases=_CASES,
    renamed=frames,
)
write = partial(write_archive, ACDC_ARCHIVE)
check = partial(check_archive, ACDC_ARCHIVE)
recognise = partial(recognise_archive, ACDC_ARCHIVE)
