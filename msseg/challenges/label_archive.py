"""A zip of label maps in NIfTI, one a case: written from a folder of predictions, and checked without unpacking it.

What differs between challenges, names, values, types and the list of cases, is a `LabelArchive`.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msseg.challenges.challenge import Fault, SubmissionOptions
from msseg.challenges.image_list import in_natural_order
from msseg.challenges.named_files import CaseOf, named_images, named_predictions
from msseg.challenges.nifti_member import NiftiMember, open_nifti
from msseg.challenges.object_masks import refuse_missing
from msseg.challenges.zip_members import UNREADABLE, member_names, pack, zip_members
from msseg.data.geometry import Geometry, grid_distance_mm
from msseg.data.image import read_geometry, read_label, write_label
from msseg.data.problems import FileError
from msseg.errors import DatasetError

# Headers keep 32-bit numbers: on a grid of 500 mm a rotation that is stored as a quaternion is off by less than this.
GRID_TOLERANCE_MM = 0.01
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_WRITE_AGAIN = "Write the file again with msseg_submit."
_ORIGINAL_GRID = "Predict the challenge's own images, on their own grid."
UNCHECKED = "Grids were not checked: give the challenge's images with -r."


def no_names(_: Path) -> Mapping[str, str]:
    """Nothing: names of predictions that have no other meaning among the images."""
    return {}


def one_part(_: str) -> str:
    """The only part, of a challenge that has one list of cases."""
    return ""


def nothing_missing(_: list[str]) -> list[str]:
    """Nothing: of a challenge whose number of cases is not public."""
    return []


@dataclass(frozen=True)
class LabelArchive:
    """How a challenge names and fills its zip of label maps.

    `case_of_member`, `case_of_prediction` and `case_of_image` give the case that a name stands for, or None; the latter
    two get names without channel and ending, below their folder. `member_of` names the member of a case (`example` is
    such a name), `labels` its values, `types` those that the challenge takes; what is written is uint8. `replaced`
    brings the values of predictions into those of the challenge. `cases` is the challenge's list and `grid` its one
    grid, or size (z, y, x), where they are public; images that are given take their place. `renamed(images)` has cases
    of predictions that are named by their images. `part_of(case)` is a part of the challenge that may be left out as a
    whole, and `whole(cases)` says what else is missing where no images are given.
    """

    case_of_member: CaseOf
    case_of_prediction: CaseOf
    case_of_image: CaseOf
    member_of: Callable[[str], str]
    labels: Callable[[str], tuple[int, ...]]
    example: str
    types: tuple[str, ...] = INTEGERS
    replaced: Mapping[int, int] = field(default_factory=dict)
    cases: tuple[str, ...] = ()
    grid: Geometry | tuple[int, int, int] | None = None
    renamed: Callable[[Path], Mapping[str, str]] = no_names
    part_of: Callable[[str], str] = one_part
    whole: Callable[[list[str]], list[str]] = nothing_missing


def write_archive(rule: LabelArchive, predictions: Path, path: Path, options: SubmissionOptions) -> list[str]:
    """Write the zip of a folder of label maps, on the grids they have.

    Raises DatasetError for names that are no case's, for cases without a prediction where the challenge's list is
    known, FileError for a file that cannot be read or has other values.
    """
    images = None if options.images is None else _images(rule, options.images)
    case_of = _or_renamed(rule, options.images, rule.case_of_prediction)
    found = named_predictions(predictions, case_of, rule.example)
    known = list(images or rule.cases)
    if known:
        wanted = dict.fromkeys(_of_parts(rule, known, list(found)), predictions)
        refuse_missing(predictions, found, wanted)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        count = pack(path, _written(rule, found, Path(folder)))
    first, last = (rule.member_of(in_natural_order(list(found))[end]) for end in (0, -1))
    notes = [f"{count} label maps, {first} to {last}."]
    return notes if images is not None or isinstance(rule.grid, Geometry) else [*notes, UNCHECKED]


def check_archive(rule: LabelArchive, path: Path, images: Path | None) -> list[Fault]:
    """Every fault of a zip: of its members, their names, values, types and grids, and of the list of cases."""
    infos, faults = zip_members(path)
    grids = {} if images is None else {case: read_geometry(file) for case, file in _images(rule, images).items()}
    if not infos and faults:
        return faults
    seen: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for name in in_natural_order([info.filename for info in infos]):
            case = rule.case_of_member(name)
            fault = _name_fault(rule, path, name, case, seen, grids)
            if fault is not None:
                faults.append(fault)
            elif case is not None:
                seen[case] = name
                faults += _member_faults(rule, path, grids.get(case, rule.grid), case, name, archive)
    return faults + _missing(rule, path, seen, list(grids))


def recognise_archive(rule: LabelArchive, path: Path) -> bool:
    """Whether a file is a zip of which a member is named as in this challenge."""
    return any(rule.case_of_member(name) is not None for name in member_names(path))


def _images(rule: LabelArchive, folder: Path) -> dict[str, Path]:
    """The images of the challenge's own cases by case, one file of each."""
    found = named_images(folder, _or_renamed(rule, folder, rule.case_of_image))
    own = {case: path for case, path in found.items() if case in rule.cases} if rule.cases else found
    if not own:
        listed = f" such as {rule.cases[0]}" if rule.cases else ""
        raise DatasetError(
            f"{folder}: no test image{listed}; expected those of the challenge. Name their folder with -r."
        )
    return own


def _or_renamed(rule: LabelArchive, images: Path | None, case_of: CaseOf) -> CaseOf:
    """The same function, by which names that the images' folder explains have their cases too."""
    renamed = {} if images is None else rule.renamed(images)
    return lambda name: renamed.get(name.rsplit("/", 1)[-1]) or case_of(name)


def _written(rule: LabelArchive, found: Mapping[str, Path], folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every member; a file is gone when the next one is asked for."""
    for case in in_natural_order(list(found)):
        name = rule.member_of(case)
        label, geometry = read_label(found[case])
        file = folder / Path(name).name
        write_label(file, challenge_values(found[case], label, rule.labels(case), rule.replaced), geometry)
        del label
        yield name, file
        file.unlink()


def challenge_values(
    path: Path, label: np.ndarray, allowed: tuple[int, ...], replaced: Mapping[int, int]
) -> np.ndarray:
    """The label map in the challenge's values, uint8; FileError where it has others."""
    values = sorted({value for plane in label for value in np.unique(plane).tolist()})
    other = [value for value in values if replaced.get(value, value) not in allowed]
    if other:
        expected = ", ".join(map(str, allowed))
        raise FileError(path, f"label values {_listed(other)}", expected, "Predict with a model of this challenge.")
    new = label.astype(np.uint8)
    for old in set(values) & replaced.keys():
        new[label == old] = replaced[old]
    return new


def _name_fault(
    rule: LabelArchive, path: Path, name: str, case: str | None, seen: Mapping[str, str], grids: Mapping[str, Geometry]
) -> Fault | None:
    known = grids.keys() or set(rule.cases)
    if case is None:
        return Fault(path, None, "a name of no case", f"names such as {rule.example}", "Take it out.", member=name)
    if case in seen:
        return Fault(path, None, f"the case of {seen[case]}", "one file a case", "Take one out.", member=name)
    if known and case not in known:
        return Fault(path, None, "an unknown case", "the challenge's test cases", "Take it out.", member=name)
    return None


def _member_faults(
    rule: LabelArchive,
    path: Path,
    grid: Geometry | tuple[int, int, int] | None,
    case: str,
    name: str,
    archive: zipfile.ZipFile,
) -> list[Fault]:
    """What is wrong with one label map; the voxels of a wrong grid are not read."""

    def fault(found: str, expected: str, remedy: str) -> Fault:
        return Fault(path, None, found, expected, remedy, member=name)

    try:
        member = open_nifti(archive, name)
        off = _grid_fault(member.head.geometry, grid)
        if off is not None:
            return [fault(*off, _ORIGINAL_GRID)]
        faults = [] if _is_type(rule, member) else [fault(_type_text(member), _types_text(rule), _WRITE_AGAIN)]
        allowed = rule.labels(case)
        other = [value for value in member.values() if value not in allowed]
    except FileError as error:
        return [fault(error.found, error.expected, error.remedy)]
    except UNREADABLE as error:
        return [fault(f"cannot be read ({error})", "a complete file", "Zip it again.")]
    if other:
        faults.append(fault(f"label values {_listed(other)}", ", ".join(map(str, allowed)), "Replace them."))
    return faults


def _is_type(rule: LabelArchive, member: NiftiMember) -> bool:
    head = member.head
    return head.dtype.newbyteorder("=").name in rule.types and (head.slope, head.intercept) == (1, 0)


def _type_text(member: NiftiMember) -> str:
    head = member.head
    scaled = "" if (head.slope, head.intercept) == (1, 0) else f", scaled by {head.slope:g} and {head.intercept:g}"
    return f"values of type {head.dtype.name}{scaled}"


def _types_text(rule: LabelArchive) -> str:
    return "whole numbers that are not scaled" if rule.types == INTEGERS else f"{' or '.join(rule.types)}, not scaled"


def _grid_fault(found: Geometry, expected: Geometry | tuple[int, int, int] | None) -> tuple[str, str] | None:
    """What was found and expected where a grid is another one."""
    if expected is None:
        return None
    shape = expected.shape if isinstance(expected, Geometry) else expected
    if found.shape != shape:
        return f"{_size(found.shape)} voxels", f"{_size(shape)} as its image has"
    distance_mm = grid_distance_mm(found, expected) if isinstance(expected, Geometry) else 0.0
    if distance_mm <= GRID_TOLERANCE_MM:
        return None
    return f"a grid up to {distance_mm:.4g} mm away from its image's", f"one grid, to {GRID_TOLERANCE_MM:g} mm"


def _missing(rule: LabelArchive, path: Path, seen: Mapping[str, str], imaged: list[str]) -> list[Fault]:
    """What the archive lacks, by the images' cases, the challenge's list, or what it says of them without one."""
    wanted = imaged or list(rule.cases)
    wanted = _of_parts(rule, wanted, list(seen)) if seen else wanted
    missing = [f"no {rule.member_of(case)}" for case in in_natural_order(wanted) if case not in seen]
    if not wanted:
        missing = rule.whole(list(seen)) if seen else ["no label map"]
    return [Fault(path, None, found, "one for every test case", "Add its prediction.") for found in missing]


def _of_parts(rule: LabelArchive, known: list[str], found: list[str]) -> list[str]:
    """The known cases of the parts that some of those found are of."""
    parts = {rule.part_of(case) for case in found}
    return [case for case in known if rule.part_of(case) in parts]


def _listed(values: list[float] | list[int]) -> str:
    return ", ".join(f"{value:g}" for value in values[:8]) + (" and more" if len(values) > 8 else "")


def _size(shape_zyx: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape_zyx[::-1]))
