"""LiTS17's submission: a zip of `test-segmentation-0.nii` to `test-segmentation-69.nii`, uint8, on the image's grid.

Sources: https://competitions.codalab.org/competitions/17094; submission-guide.md of PatrickChrist/LITS-CHALLENGE
(names, size and spacing of the volume, no folder and no other file in the zip). The scoring program reads any type
into bytes; bytes are what is asked for here, for nothing else comes through it unharmed.
"""

from __future__ import annotations

from functools import partial

from msseg.challenges.label_archive import LabelArchive, check_archive, recognise_archive, write_archive
from msseg.challenges.named_files import case_by

_CASES = tuple(str(number) for number in range(70))
_VALUES = (0, 1, 2)  # background, liver, tumour

LITS17_ARCHIVE = LabelArchive(
    case_of_member=case_by(r"test-segmentation-(?P<case>0|[1-9]\d*)\.nii"),
    case_of_prediction=case_by(r"(?:.*/)?(?:test-volume-|test-segmentation-|lits_test_)0*(?P<case>\d+)"),
    case_of_image=case_by(r"(?:.*/)?(?:test-volume-|lits_test_)0*(?P<case>\d+)"),
    member_of="test-segmentation-{}.nii".format,
    labels=lambda case: _VALUES,
    example="test-segmentation-0.nii",
    types=("uint8",),
    cases=_CASES,
)
write = partial(write_archive, LITS17_ARCHIVE)
check = partial(check_archive, LITS17_ARCHIVE)
recognise = partial(recognise_archive, LITS17_ARCHIVE)
