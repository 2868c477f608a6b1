"""The check before any work: every problem of every case in one table, each file read once.

`check_dataset_structure` looks at names, `check_case` at the contents of one case (in a worker process; its report is
small), `check_across_cases` at all reports together.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.cases import Case
from msseg.data.dataset import Dataset
from msseg.data.geometry import Geometry
from msseg.data.image import GRID_TOLERANCE_MM, check_same_grid, image_ending, read_channels, read_label
from msseg.data.labels import IGNORED, LabelCoding, UndeclaredValuesError
from msseg.data.mask_folders import MergedMasks, merge_masks
from msseg.data.problems import FileError, Problem

_COPY_OR_TAKE_OUT = "Put the file there, or take the case out of dataset.json or the folder."


@dataclass(frozen=True)
class CaseReport:
    """What the check found in one case: problems, a digest of the image's values, voxels of the foreground.

    `has_spacing` is whether the image's file tells the size of its voxels, `is_annotated` whether the label says
    anything, which one that is ignored everywhere does not.
    """

    name: str
    file: str
    problems: tuple[Problem, ...]
    digest: str | None = None
    foreground_voxels: int | None = None
    has_spacing: bool = True
    is_annotated: bool = True

    @property
    def is_usable(self) -> bool:
        """Whether no problem is an error."""
        return all(problem.severity != "error" for problem in self.problems)


@dataclass(frozen=True)
class CheckedCase:
    """A case's report with what was read for it: image float32 (c, z, y, x), label of class indices (z, y, x).

    What has an error is None; what has none is given even where the other has, so that nothing is read twice.
    """

    report: CaseReport
    image: np.ndarray | None
    label: np.ndarray | None
    geometry: Geometry | None


def check_dataset_structure(dataset: Dataset) -> list[Problem]:
    """Problems that need no file opened: files that are missing, names twice; and the notes of the reading."""
    problems = list(dataset.notes)
    for case in dataset.training:
        problems += _missing_files(case)
    problems += _missing_test_note(dataset.test)
    problems += _repeated_names(dataset.training) + _repeated_names(dataset.test)
    problems += _shared_files(dataset.training)
    if not dataset.training:
        source = str(dataset.folder / "dataset.json")
        problems.append(Problem("", source, "no training cases", "at least one", "List or copy cases."))
    return problems


def check_case(case: Case, channels: int, label_map: LabelCoding, names: Sequence[str] = ()) -> CheckedCase:
    """A case read once and held against what it should be; nothing is raised for a file that is wrong.

    Errors: unreadable files, another number of channels, channels or label on another grid (beyond 1e-3 mm), values
    that are not finite, undeclared label values. Notes: a grid off by less, an empty label, a constant channel.
    `names` are the channels' names for the messages.
    """
    present = [path for path in case.image_paths if path.exists()]
    problems = _missing_files(case)
    read = read_channels(present, channels)
    problems += [error.as_problem(case.name) for error in read.errors]
    problems += [_grid_note(case, path, distance) for path, distance in read.distances_mm.items() if distance]
    image = read.image if len(present) == len(case.image_paths) else None
    if image is not None:
        channel_problems = _check_channels(case, image, channels, names)
        problems += channel_problems
        image = None if _has_error(channel_problems) else image
    label, label_problems = _check_label(case, read.geometry, label_map)
    report = CaseReport(
        name=case.name,
        file=str(case.image_paths[0]),
        problems=(*problems, *label_problems),
        digest=None if image is None else _digest(image),
        foreground_voxels=None if label is None else _foreground_voxels(label),
        has_spacing=read.geometry is None or read.geometry.has_spacing,
        is_annotated=label is None or _is_annotated(label),
    )
    return CheckedCase(report, image, label, read.geometry)


def check_across_cases(reports: Sequence[CaseReport]) -> list[Problem]:
    """Problems that only show between cases: one image under two names, and not a single labelled voxel anywhere."""
    by_digest: dict[str, list[CaseReport]] = defaultdict(list)
    for report in sorted(reports, key=lambda report: report.name):
        if report.digest is not None:
            by_digest[report.digest].append(report)
    problems = [
        Problem(
            case=copy.name,
            file=copy.file,
            found=f"the same image values as case {group[0].name}",
            expected="every image once",
            remedy="Take one of the two out, or training and validation share it.",
        )
        for group in by_digest.values()
        for copy in group[1:]
    ]
    foreground = [report.foreground_voxels for report in reports if report.foreground_voxels is not None]
    if foreground and not any(foreground):
        found, remedy = f"{len(foreground)} labels, all of them empty", "Export the labels again."
        problems.append(Problem("", str(Path(reports[0].file).parent), found, "some foreground", remedy))
    return problems + _without_spacing(reports)


def _without_spacing(reports: Sequence[CaseReport]) -> list[Problem]:
    """One note for all images whose files do not tell the size of a pixel."""
    known = [report for report in reports if report.digest is not None]
    without = [report for report in known if not report.has_spacing]
    if not without:
        return []
    if len(without) == len(known):
        found, remedy = f"{len(without)} images without a spacing", "Nothing; distances are in pixels."
    else:
        found = f"{len(without)} of {len(known)} images without a spacing, the first {Path(without[0].file).name}"
        remedy = "Nothing; all images are taken pixel by pixel. Give every image its spacing to have it honoured."
    return [Problem("", str(Path(without[0].file).parent), found, "the size of a pixel", remedy, "note")]


def _has_error(problems: Iterable[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _missing_files(case: Case) -> list[Problem]:
    kinds = [(path, "image") for path in case.image_paths]
    kinds += [(case.label_path, "label")] if case.label_path else []
    return [
        Problem(case.name, str(path), *_missing_words(path, kind), _COPY_OR_TAKE_OUT)
        for path, kind in kinds
        if not path.exists()
    ]


def _missing_words(path: Path, kind: str) -> tuple[str, str]:
    """What is not there and what was expected; a label without a file's ending is a folder of masks."""
    if kind == "label" and image_ending(path) is None:
        return "no such folder of masks", "the masks of the case (an empty folder for an image without objects)"
    return f"no such {kind} file", f"the {kind} of the case"


def _missing_test_note(cases: Sequence[Case]) -> list[Problem]:
    """One note for all: training needs no test image, and published data sets often come without them."""
    missing = [path for case in cases for path in case.image_paths if not path.exists()]
    if not missing:
        return []
    found = f"listed test images that are not there ({len(missing)}, the first {missing[0].name})"
    remedy = "Nothing for training; copy them to segment them."
    return [Problem("", str(missing[0].parent), found, "all listed files", remedy, "note")]


def _repeated_names(cases: Sequence[Case]) -> list[Problem]:
    """Names that occur twice, or that a file system that ignores case takes for one."""
    by_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_name[case.name.casefold()].append(case)
    return [
        Problem(
            case=case.name,
            file=str(case.image_paths[0]),
            found=f"the name of case {group[0].name} ({group[0].image_paths[0]}) again",
            expected="names that differ, also without regard to upper case",
            remedy="Rename or take out one of the two.",
        )
        for group in by_name.values()
        for case in group[1:]
    ]


def _shared_files(cases: Sequence[Case]) -> list[Problem]:
    """Files that two cases of different names list."""
    owner: dict[Path, Case] = {}
    problems = []
    for case in cases:
        for path in filter(None, (*case.image_paths, case.label_path)):
            first = owner.setdefault(path, case)
            if first is not case and first.name.casefold() != case.name.casefold():
                found, remedy = f"a file that case {first.name} lists too", "Give each case its own file."
                problems.append(Problem(case.name, str(path), found, "files of one case each", remedy))
    return problems


def _check_channels(case: Case, image: np.ndarray, channels: int, names: Sequence[str]) -> list[Problem]:
    file = str(case.image_paths[0])
    if len(image) != channels:
        listed = f" ({', '.join(names)})" if names else ""
        remedy = "Add or remove channels, or mend the channel names in dataset.json."
        return [Problem(case.name, file, f"{len(image)} channels", f"{channels} channels{listed}", remedy)]
    paths = case.image_paths if len(case.image_paths) == channels else case.image_paths * channels
    return [
        Problem(
            case=case.name,
            file=str(paths[channel]),
            found=f"channel {names[channel] if names else channel} is {values.flat[0]:g} everywhere",
            expected="an image with contrast",
            remedy="Look at it; export it again if it is not meant to be empty.",
            severity="note",
        )
        for channel, values in enumerate(image)
        if values.min() == values.max()
    ]


def _grid_note(case: Case, path: Path, distance_mm: float) -> Problem:
    return Problem(
        case=case.name,
        file=str(path),
        found=f"a grid up to {distance_mm:.2g} mm away from the image's",
        expected=f"one grid, to {GRID_TOLERANCE_MM:g} mm",
        remedy="Nothing; taken as the same grid.",
        severity="note",
    )


def _check_label(
    case: Case, geometry: Geometry | None, label_map: LabelCoding
) -> tuple[np.ndarray | None, list[Problem]]:
    """Class indices of the case's label, None where it has none or an error, and its problems."""
    path = case.label_path
    if path is None or not path.exists():
        return None, []
    merged = None
    try:
        if path.is_dir():
            merged = merge_masks(path)
        values, label_geometry = (merged.label, merged.geometry) if merged else read_label(path)
        distance_mm = 0.0
        if geometry is not None:
            distance_mm = check_same_grid(path, label_geometry, case.image_paths[0], geometry)
        label = label_map.to_index(values)
    except FileError as error:
        return None, [error.as_problem(case.name)]
    except UndeclaredValuesError as error:
        expected = f"the declared {', '.join(map(str, error.declared))}"
        remedy = "Declare the values in dataset.json, or export the label again."
        return None, [Problem(case.name, str(path), f"label values {error.found()}", expected, remedy)]
    problems = [_grid_note(case, path, distance_mm)] if distance_mm else []
    problems += _merging_notes(case, path, merged) if merged else []
    if not _is_annotated(label):
        found, remedy = (
            "a label that is ignored everywhere",
            "Left out, as nothing can be learned of it; annotate some.",
        )
        problems.append(Problem(case.name, str(path), found, "some annotated voxels", remedy, "note"))
    elif label.max(initial=0) <= 0 and not (merged and not merged.masks):
        remedy = "Kept as a case without foreground; check that it is meant."
        problems.append(Problem(case.name, str(path), "an empty label", "some foreground", remedy, "note"))
    return label, problems


def _foreground_voxels(label: np.ndarray) -> int:
    return int(np.count_nonzero(label if label.dtype.kind == "u" else label > 0))


def _is_annotated(label: np.ndarray) -> bool:
    return label.dtype.kind == "u" or bool(label.max(initial=IGNORED) > IGNORED)


def _merging_notes(case: Case, path: Path, merged: MergedMasks) -> list[Problem]:
    """What was met in a folder of masks."""
    notes = []
    if not merged.masks:
        remedy = "Taken as an image without objects; put its masks there if it has some."
        notes.append(Problem(case.name, str(path), "an empty folder of masks", "one mask per object", remedy, "note"))
    if merged.overlap_pixels:
        found = f"masks that overlap in {merged.overlap_pixels} pixels"
        remedy = "Nothing; the first by name keeps them."
        notes.append(Problem(case.name, str(path), found, "a pixel in one object", remedy, "note"))
    if merged.empty:
        found = f"{len(merged.empty)} masks without a pixel of their own, the first {merged.empty[0].name}"
        notes.append(Problem(case.name, str(path), found, "an object a mask", "Nothing; left out.", "note"))
    return notes


def _digest(image_czyx: np.ndarray) -> str:
    """Shape, CRC-32 and sum of the values, the same for one image stored in two ways.

    Enough to tell the images of a data set apart, and five times as fast as a cryptographic hash.
    """
    checksum = zlib.crc32(np.ascontiguousarray(image_czyx).reshape(-1).view(np.uint8).data)
    return f"{image_czyx.shape} {checksum:08x} {image_czyx.sum(dtype=np.float32)!r}"
