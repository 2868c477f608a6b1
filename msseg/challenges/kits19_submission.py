"""KiTS19's submission: a zip of `prediction_00210.nii.gz` to `prediction_00299.nii.gz` on the original grid.

Source: https://kits19.grand-challenge.org/rules/ ("Submission Format"), which counts a case that is missing, and any
other value, as background.
"""

from __future__ import annotations

from functools import partial

from msseg.challenges.label_archive import LabelArchive, check_archive, recognise_archive, write_archive
from msseg.challenges.named_files import case_by

_CASES = tuple(f"{number:05d}" for number in range(210, 300))
_VALUES = (0, 1, 2)  # background, kidney, tumour

KITS19_ARCHIVE = LabelArchive(
    case_of_member=case_by(r"prediction_(?P<case>\d{5})\.nii\.gz"),
    case_of_prediction=case_by(r"(?:.*/)?(?:case|prediction|kits)_(?P<case>\d{5})"),
    case_of_image=case_by(r"(?:.*/)?case_(?P<case>\d{5})(?:/imaging)?"),
    member_of="prediction_{}.nii.gz".format,
    labels=lambda case: _VALUES,
    example="prediction_00210.nii.gz",
    cases=_CASES,
)
write = partial(write_archive, KITS19_ARCHIVE)
check = partial(check_archive, KITS19_ARCHIVE)
recognise = partial(recognise_archive, KITS19_ARCHIVE)
