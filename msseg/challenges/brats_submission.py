"""BraTS' submissions: a zip of label maps named by their subjects; the enhancing tumour is 4 until 2021, 3 since 2023.

Sources: https://www.med.upenn.edu/cbica/brats2020/data.html (labels 1, 2, 4; 240 x 240 x 155 voxels of 1 mm; 2019
alike). The platform's own programs, of Sage-Bionetworks-Challenges: for 2021 `brats-dream-challenge-infra` (`Docker/
validate.py`: names end with the five digits of the case), since then `brats2023` (`evaluation/lesionwise/validate.py`,
`validate2024.py`: names end with `00001-000.nii.gz`; one grid for all, origin included). Gliomas of 2024 are those
after treatment, on the grid of an atlas, where 4 is the resection cavity; other tumours of 2024 have names, grids and
labels of 2023, or others again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from msseg.challenges.label_archive import LabelArchive, check_archive, recognise_archive, write_archive
from msseg.challenges.named_files import case_by
from msseg.data.geometry import Geometry

_SHAPE_UNTIL_2021 = (155, 240, 240)
_GRID_2023 = Geometry((155, 240, 240), (1.0, 1.0, 1.0), (0.0, -239.0, 0.0))
_GRID_2024 = Geometry(
    (182, 218, 182), (1.0, 1.0, 1.0), (-90.0, 126.0, -72.0), ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
)
_CHANNELS = r"(?:_(?:t1|t1ce|t2|flair)|-(?:t1n|t1c|t2w|t2f))?"
_ENHANCING_UNTIL_2021, _ENHANCING_SINCE_2023 = 4, 3


@dataclass(frozen=True)
class _Year:
    """Pattern and example of a subject's name, values of label maps, which of a prediction are replaced, the grid."""

    subject: str
    example: str
    values: tuple[int, ...]
    replaced: dict[int, int]
    grid: Geometry | tuple[int, int, int]


_OLD = (0, 1, 2, _ENHANCING_UNTIL_2021), {_ENHANCING_SINCE_2023: _ENHANCING_UNTIL_2021}, _SHAPE_UNTIL_2021
_NEW = (0, 1, 2, _ENHANCING_SINCE_2023), {_ENHANCING_UNTIL_2021: _ENHANCING_SINCE_2023}, _GRID_2023
_YEARS = {
    "brats19": _Year(r"BraTS19_\w+?_\w+?_\d+", "BraTS19_CBICA_AAM_1", *_OLD),
    "brats20": _Year(r"BraTS20_(?:Training|Validation|Testing)_\d{3}", "BraTS20_Validation_001", *_OLD),
    "brats21": _Year(r"BraTS2021_\d{5}", "BraTS2021_00001", *_OLD),
    "brats23": _Year(r"BraTS-[A-Z]{3}-\d{5}-\d{3}", "BraTS-GLI-00001-000", *_NEW),
    "brats24": _Year(r"BraTS-GLI-\d{5}-\d{3}", "BraTS-GLI-02063-100", (0, 1, 2, 3, 4), {}, _GRID_2024),
}


def _archive(year: _Year) -> LabelArchive:
    below = rf"(?:.*/)?(?P<case>{year.subject})"
    return LabelArchive(
        case_of_member=case_by(rf"(?P<case>{year.subject})\.nii\.gz"),
        case_of_prediction=case_by(below),
        case_of_image=case_by(below + _CHANNELS),
        member_of="{}.nii.gz".format,
        labels=lambda case: year.values,
        example=f"{year.example}.nii.gz",
        replaced=year.replaced,
        grid=year.grid,
    )


BRATS_ARCHIVES = {name: _archive(year) for name, year in _YEARS.items()}
writers = {name: partial(write_archive, archive) for name, archive in BRATS_ARCHIVES.items()}
checks = {name: partial(check_archive, archive) for name, archive in BRATS_ARCHIVES.items()}
recognisers = {name: partial(recognise_archive, archive) for name, archive in BRATS_ARCHIVES.items()}
