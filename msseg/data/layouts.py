"""The folder layouts: where the Medical Segmentation Decathlon and nnU-Net v2 keep the files of a case."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msseg.data.cases import Case, case_name, list_images, split_channel
from msseg.data.image import IMAGE_ENDINGS, PICTURE_ENDINGS, image_ending
from msseg.data.problems import FileError, Problem

_MAX_FILES_NAMED = 10
_LOSSY_ENDINGS = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Listing:
    """The cases of a data set, the ending of its images, and what there is to say about how they were found."""

    training: list[Case]
    test: list[Case]
    file_ending: str
    notes: list[Problem]


def malformed(source: Path, found: str, expected: str) -> FileError:
    """The error for a dataset.json that says `found`."""
    return FileError(source, found, expected, "Mend dataset.json.")


def list_nnunet(folder: Path, description: Mapping[str, Any], channels: int) -> Listing:
    """Cases of nnU-Net v2: the explicit list under `dataset`, else every `x_0000` of imagesTr with label x of labelsTr.

    Where imagesTr and labelsTr do not match, the case lists the file that ought to be there; the check names it.
    """
    source = folder / "dataset.json"
    ending = description.get("file_ending")
    if ending not in IMAGE_ENDINGS:
        raise malformed(source, f"file_ending {ending!r}", f"one of {', '.join(IMAGE_ENDINGS)}")
    test = _cases_by_channel(folder / "imagesTs", None, ending, channels)
    if "dataset" not in description:
        training = _cases_by_channel(folder / "imagesTr", folder / "labelsTr", ending, channels)
        return Listing(training, test, ending, _namesakes(folder, ending))
    training = _explicit_cases(source, description["dataset"])
    notes = _unlisted_files(folder, training) + _outside_notes(folder, training)
    return Listing(training, test, ending, notes)


def list_decathlon(folder: Path, description: Mapping[str, Any], channels: int) -> Listing:
    """Cases of the Decathlon: the lists `training` (image and label) and `test` (images), paths relative to the folder.

    A listed `x.nii.gz` that is absent where `x_0000.nii.gz` is there is read as nnU-Net v1 did: by channel files.
    """
    source = folder / "dataset.json"
    entries = description.get("training", [])
    tests = description.get("test", [])
    if not isinstance(entries, list) or not isinstance(tests, list):
        raise malformed(source, "training or test that is no list", "lists of files")
    training = [_decathlon_case(folder, entry, channels, has_label=True) for entry in entries]
    test = [_decathlon_case(folder, entry, channels, has_label=False) for entry in tests]
    endings = sorted({image_ending(path) or path.suffix for case in training + test for path in case.image_paths})
    if len(endings) > 1 or not set(endings) <= set(IMAGE_ENDINGS):
        raise malformed(source, f"images that end in {', '.join(endings)}", f"one of {', '.join(IMAGE_ENDINGS)}")
    return Listing(training, test, endings[0] if endings else IMAGE_ENDINGS[0], _unlisted_files(folder, training))


LAYOUTS: dict[str, Callable[[Path, Mapping[str, Any], int], Listing]] = {
    "channel_names": list_nnunet,
    "modality": list_decathlon,
}


def _cases_by_channel(images: Path, labels: Path | None, ending: str, channels: int) -> list[Case]:
    """A case for every name that has a channel file, or (where `labels` is given) a label."""
    found: dict[str, dict[int, Path]] = {}
    for path in list_images(images, ending):
        case, channel = split_channel(case_name(path))
        found.setdefault(case, {})[0 if channel is None else channel] = path
    names = set(found)
    if labels is not None:
        names |= {case_name(path) for path in list_images(labels, ending)}
    is_whole = ending in PICTURE_ENDINGS and set().union(*found.values()) <= {0}  # one picture holds all its channels
    wanted = {0} if is_whole else set(range(channels))
    cases = []
    for name in sorted(names):
        group = found.get(name, {})
        paths = tuple(
            group.get(number, images / f"{name}_{number:04d}{ending}") for number in sorted(wanted | set(group))
        )
        cases.append(Case(name, paths, _label_of(labels, name, ending) if labels is not None else None))
    return cases


def _label_of(labels: Path, name: str, ending: str) -> Path:
    """The label of a case: its name with the ending, a folder of masks of its name, or a PNG beside JPEG images."""
    usual = labels / f"{name}{ending}"
    others = [labels / name] + ([labels / f"{name}.png"] if ending in _LOSSY_ENDINGS else [])
    return next((path for path in others if path.exists() and not usual.exists()), usual)


def name_twice(name: str, first: Path, other: Path) -> Problem:
    """The error for two files of one case."""
    return Problem(
        name, str(other), f"the name of {first.name} again", "one file a case", "Rename or take out one of the two."
    )


def _namesakes(folder: Path, ending: str) -> list[Problem]:
    """An error for each further file of one case and channel, also one with another ending; others are noted."""
    problems = []
    for room in ("imagesTr", "labelsTr", "imagesTs"):
        taken: dict[tuple[str, int], Path] = {}
        others = []
        for path in list_images(folder / room):
            is_taken = image_ending(path) == ending and path is taken.setdefault(_place(path, room), path)
            others += [] if is_taken else [path]
        for path in others:
            case = _place(path, room)
            first = taken.get(case)
            if first is not None:
                problems.append(name_twice(case[0], first, path))
            elif not (room == "labelsTr" and ending in _LOSSY_ENDINGS):
                found, remedy = f"a file that does not end in {ending}", "Left out. Convert it to use it."
                problems.append(Problem(case[0], str(path), found, "the file_ending", remedy, "note"))
    return problems


def _place(path: Path, room: str) -> tuple[str, int]:
    """The case and channel that a file is of."""
    if room == "labelsTr":
        return case_name(path), 0
    case, channel = split_channel(case_name(path))
    return case, channel or 0


def _explicit_cases(source: Path, listed: Any) -> list[Case]:
    if not isinstance(listed, dict):
        raise malformed(source, "a `dataset` that is no object", "case names with their images and label")
    cases = []
    for name, entry in listed.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        texts = _texts([*images, entry.get("label")] if isinstance(images, list) and images else [])
        if not texts:
            raise malformed(source, f"case {name!r} as {entry!r}", '{"images": [file, ...], "label": file}')
        _refuse_variables(source, texts)
        if not name or name.startswith(".") or set(name) & set("/\\"):
            raise malformed(source, f"the case name {name!r}", "a name that can be a file's, not a path")
        *image_paths, label_path = [Path(os.path.normpath(source.parent / text)) for text in texts]
        cases.append(Case(name, tuple(image_paths), label_path))
    return cases


def _texts(values: list[Any]) -> list[str]:
    """The values where all of them are texts, else none."""
    return values if all(isinstance(value, str) for value in values) else []


def _refuse_variables(source: Path, paths: list[str]) -> None:
    for path in paths:
        if "$" in path:
            raise malformed(
                source, f"the path {path!r}", "a path without environment variables, which msseg never reads"
            )


def _decathlon_case(folder: Path, entry: Any, channels: int, has_label: bool) -> Case:
    source = folder / "dataset.json"
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
    images = _texts(image if isinstance(image, list) else [image])
    if not images or (has_label and not isinstance(label, str)):
        raise malformed(source, f"the case {entry!r}", '{"image": file, "label": file}')
    paths = [_inside(source, path) for path in images]
    name = case_name(paths[0]) if isinstance(image, str) else split_channel(case_name(paths[0]))[0]
    if len(paths) == 1 and not paths[0].exists():
        paths = _by_channel_instead(paths[0], channels)
    return Case(name, tuple(paths), _inside(source, str(label)) if has_label else None)


def _by_channel_instead(path: Path, channels: int) -> list[Path]:
    ending = image_ending(path) or ""
    files = [path.with_name(f"{case_name(path)}_{channel:04d}{ending}") for channel in range(channels)]
    return files if files[0].exists() else [path]


def _inside(source: Path, path: str) -> Path:
    """The file that a Decathlon list names; this layout keeps its files in its folder, so a way out is refused."""
    relative = Path(os.path.normpath(path))
    if relative.is_absolute() or os.pardir in relative.parts:
        raise malformed(source, f"the path {path!r}", "a path inside the data set folder")
    return source.parent / relative


def _unlisted_files(folder: Path, cases: list[Case]) -> list[Problem]:
    """Notes on files in imagesTr and labelsTr that no case names."""
    listed = {path.resolve() for case in cases for path in (*case.image_paths, case.label_path) if path}
    images = [path for path in list_images(folder / "imagesTr") if path.resolve() not in listed]
    labels = [path for path in list_images(folder / "labelsTr") if path.resolve() not in listed]
    label_names = {case_name(path) for path in labels}
    image_names = {split_channel(case_name(path))[0] for path in images} | {case_name(path) for path in images}
    notes = [_unlisted(path, "image", "label", not _names(path) & label_names) for path in images]
    notes += [_unlisted(path, "label", "image", True) for path in labels if case_name(path) not in image_names]
    rest = len(notes) - _MAX_FILES_NAMED
    if rest > 1:
        found = f"{rest} more files that dataset.json does not list"
        notes[_MAX_FILES_NAMED:] = [Problem("", str(folder), found, "listed files only", "", "note")]
    return notes


def _names(path: Path) -> set[str]:
    return {case_name(path), split_channel(case_name(path))[0]}


def _unlisted(path: Path, kind: str, other: str, is_alone: bool) -> Problem:
    return Problem(
        case=split_channel(case_name(path))[0] if kind == "image" else case_name(path),
        file=str(path),
        found=f"{kind} not listed in dataset.json" + (f", and without {other}" if is_alone else ""),
        expected="listed files only",
        remedy="Left out. List it with its partner to use it." if is_alone else "Left out. List it to use it.",
        severity="note",
    )


def _outside_notes(folder: Path, cases: list[Case]) -> list[Problem]:
    """One note where an explicit list, as nnU-Net allows, takes files from elsewhere."""
    root = Path(os.path.normpath(folder.absolute()))
    paths = [path for case in cases for path in (*case.image_paths, case.label_path) if path]
    outside = [path for path in paths if root not in Path(os.path.normpath(path.absolute())).parents]
    if not outside:
        return []
    found = f"{len(outside)} listed files outside the data set folder, the first {outside[0]}"
    return [Problem("", str(folder / "dataset.json"), found, "files inside it", "They are read; check them.", "note")]
