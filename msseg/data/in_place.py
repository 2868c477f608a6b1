"""Folders of images and masks without a dataset.json: cases from the names, channels and labels from the files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.cases import Case, case_name, list_images, split_channel
from msseg.data.colours import RGB
from msseg.data.found_layouts import IMAGES, INSTANCES, MASKS, FoundLayout, case_folders
from msseg.data.image import image_ending, read_label, shown_channels
from msseg.data.layouts import Listing, name_twice
from msseg.data.problems import FileError, Problem
from msseg.errors import DatasetError, MssegError
from msseg.files import read_json, value_hash, write_json

GREY = ("grey",)
NUCLEUS, OBJECT = "nucleus", "object"
MOST_LABELS = 32
_BLACK_AND_WHITE = [1, 255]
_SURVEY_VERSION = 1
# What annotation programs put behind an image's name.
_LABEL_SUFFIXES = ("_mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_instances", "_gt")


@dataclass(frozen=True)
class Found:
    """A data set as its files show it; `instances` is whether its labels number objects."""

    channels: tuple[str, ...]
    labels: dict[str, int]
    instances: bool
    listing: Listing


def read_in_place(folder: Path, layout: FoundLayout, cache: Path | None = None) -> Found:
    """The data set in a folder of that layout.

    Colours in any image make three channels, else there is one. Labels: one foreground for objects, else the values
    that the label files hold; FileError for more than 32 of them. What was read is kept in the folder `cache`.
    """
    listing = _list_by_case(layout) if layout.is_by_case else _list_pairs(layout)
    if not listing.training and not listing.test:
        raise FileError(layout.images, "no images", "PNG, TIFF, JPEG or volumes", "Copy them there.")
    is_objects = layout.is_by_case or (layout.labels is not None and layout.labels.name == INSTANCES)
    is_objects |= any(case.label_path is not None and case.label_path.is_dir() for case in listing.training)
    channels = _remembered(cache, "channels", _image_files(listing), _channels_of)
    if is_objects:
        labels = {"background": 0, NUCLEUS if layout.is_by_case else OBJECT: 1}
    else:
        labels = _named(layout, _remembered(cache, "values", _label_files(listing), _values_of))
    notes = [*listing.notes, _how_noted(folder, layout, labels, is_objects)]
    return Found(_channel_names(channels), labels, is_objects, replace(listing, notes=notes))


def _list_by_case(layout: FoundLayout) -> Listing:
    training = [_case_of(folder, folder / MASKS) for folder in case_folders(layout.images)]
    test = [_case_of(folder, None) for folder in case_folders(layout.test)] if layout.test else []
    problems = [problem for case in training + test for problem in _several_images(case)]
    training, test = ([replace(case, image_paths=case.image_paths[:1]) for case in cases] for cases in (training, test))
    return Listing(training, test, _ending(training + test), problems)


def _case_of(folder: Path, masks: Path | None) -> Case:
    files = list_images(folder / IMAGES)
    return Case(folder.name, tuple(files) or (folder / IMAGES / f"{folder.name}.png",), masks)


def _several_images(case: Case) -> list[Problem]:
    if len(case.image_paths) == 1:
        return []
    names = ", ".join(path.name for path in case.image_paths)
    found, remedy = f"several images of one case ({names})", "Keep one of them."
    return [Problem(case.name, str(case.image_paths[0].parent), found, "one image a case", remedy)]


def _list_pairs(layout: FoundLayout) -> Listing:
    """Every image with the label of its name; one without the other stays a case, which the check then names."""
    assert layout.labels is not None
    images, image_problems = _by_name(list_images(layout.images))
    found, label_problems = _by_name([*list_images(layout.labels), *_subfolders(layout.labels)])
    labels = _matched(images, found)
    training = [Case(name, (path,), labels.get(name, layout.labels / f"{name}.png")) for name, path in images.items()]
    taken = set(labels.values())
    ending = _ending(training)
    training += [
        Case(name, (layout.images / f"{name}{ending}",), path) for name, path in found.items() if path not in taken
    ]
    test_images, test_problems = _by_name(list_images(layout.test)) if layout.test else ({}, [])
    test = [Case(name, (path,)) for name, path in test_images.items()]
    return Listing(training, test, ending, [*image_problems, *label_problems, *test_problems])


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _by_name(paths: Iterable[Path]) -> tuple[dict[str, Path], list[Problem]]:
    """The files by their names without endings, and an error for every name that two files have."""
    files: dict[str, Path] = {}
    problems = []
    for path in paths:
        name = path.name if path.is_dir() else case_name(path)
        first = files.setdefault(name, path)
        if first is not path:
            problems.append(name_twice(name, first, path))
    return files, problems


def _matched(images: Iterable[str], labels: dict[str, Path]) -> dict[str, Path]:
    """The label of each image name: the same name, that without a channel's number, or one with a usual suffix."""
    matched = {}
    for name in images:
        plain = split_channel(name)[0]
        spellings = [name, plain, *(f"{name}{suffix}" for suffix in _LABEL_SUFFIXES)]
        match = next((labels[spelling] for spelling in spellings if spelling in labels), None)
        if match is not None:
            matched[name] = match
    return matched


def _ending(cases: Sequence[Case]) -> str:
    """The most usual ending of the images."""
    endings = [image_ending(path) or ".png" for case in cases for path in case.image_paths]
    return max(sorted(set(endings)), key=endings.count) if endings else ".png"


def _image_files(listing: Listing) -> list[Path]:
    return [path for case in listing.training for path in case.image_paths if path.is_file()]


def _label_files(listing: Listing) -> list[Path]:
    return [case.label_path for case in listing.training if case.label_path is not None and case.label_path.is_file()]


def _channels_of(images: Iterable[Path]) -> list[int]:
    """The numbers of channels that the images show; no more are looked at once a colour is found."""
    found: set[int] = set()
    for path in images:
        with contextlib.suppress(DatasetError):  # the check says more of it
            found.add(shown_channels(path))
        if len(RGB) in found:
            break
    return sorted(found)


def _values_of(labels: Iterable[Path]) -> list[int]:
    """The values of the labels; no more are looked at once they are too many."""
    found: set[int] = set()
    for path in labels:
        with contextlib.suppress(DatasetError):  # the check says more of it
            found.update(np.unique(read_label(path)[0]).tolist())
        if len(found - {0}) > MOST_LABELS:
            break
    return sorted(found)


def _channel_names(found: Sequence[int]) -> tuple[str, ...]:
    most = max(found, default=1)
    if most == 1:
        return GREY
    return RGB if most == len(RGB) else tuple(f"channel_{number}" for number in range(most))


def _named(layout: FoundLayout, values: Sequence[int]) -> dict[str, int]:
    foreground = [value for value in values if value != 0] or [1]
    if len(foreground) > MOST_LABELS:
        raise FileError(
            layout.labels or layout.images,
            f"labels of more than {MOST_LABELS} values, such as {', '.join(map(str, foreground[-3:]))}",
            f"at most {MOST_LABELS} classes",
            f"If they number objects, call the folder {INSTANCES}; else declare the classes in a dataset.json.",
        )
    if foreground == _BLACK_AND_WHITE:  # masks of two kinds, or 255 for what is undecided: the check names the others
        foreground = _BLACK_AND_WHITE[-1:]
    names = ["foreground"] if len(foreground) == 1 else [f"class_{value}" for value in foreground]
    return {"background": 0, **dict(zip(names, foreground, strict=True))}


def _how_noted(folder: Path, layout: FoundLayout, labels: dict[str, int], is_objects: bool) -> Problem:
    """The note that says how the folder was understood."""
    names = ", ".join(f"{name} {value}" for name, value in labels.items())
    what = "numbered objects" if is_objects else names
    where = f"{layout.labels.name}/" if layout.labels else f"{MASKS}/ of each case"
    found = f"no dataset.json; labels from {where}: {what}"
    if layout.others:
        found += f" ({', '.join(f'{path.name}/' for path in layout.others)} not taken)"
    remedy = "Nothing if that is meant; else write one, see docs/data_sets.md."
    return Problem("", str(folder), found, "a dataset.json", remedy, "note")


def _remembered(cache: Path | None, what: str, files: Sequence[Path], survey: Callable[[Iterable[Path]], Any]) -> Any:
    """What a survey of the files found, taken from the cache while names, sizes and times are the same."""
    if cache is None:
        return survey(files)
    seen = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key, path = value_hash([_SURVEY_VERSION, what, seen]), cache / f"found_{what}.json"
    with contextlib.suppress(MssegError, OSError, KeyError, TypeError):
        stored = read_json(path)
        if stored["key"] == key:
            return stored["found"]
    found = survey(files)
    write_json(path, {"key": key, "found": found})
    return found
