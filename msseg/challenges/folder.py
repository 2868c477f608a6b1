"""A folder of images beside one of masks, as most public sets of pictures come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.paging import paged
from msseg.challenges.source import Listing, Source
from msseg.data.cases import case_name, list_images
from msseg.data.problems import Problem
from msseg.errors import DatasetError

IMAGES, TEST = "images", "test"
INSTANCES = "instances"
LABEL_FOLDERS = (INSTANCES, "labels", "masks")
_LABEL_PLACES = ", ".join(f"{name}/" for name in LABEL_FOLDERS)
_OBJECT = {"object": 1}


@dataclass(frozen=True)
class _Part:
    """The sources of one folder of images, what is wrong there, and whether labels number objects."""

    sources: list[Source]
    problems: list[Problem]
    instances: bool


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """The pictures of `images/` with `instances/`, `labels/` or `masks/`, and of `test/` of the same kind.

    Labels number objects in `instances/`, and where a label is a folder of one mask an object; else their values are
    classes. A label has the name of its image, whatever the endings.
    """
    if not (source / IMAGES).is_dir():
        raise DatasetError(
            f"{source}: no folder {IMAGES}/; expected {IMAGES}/ beside {_LABEL_PLACES}. "
            "Archives are not opened: unpack them first. For stage1_train/ use --from dsb2018."
        )
    training, test = _part(source, is_test=False), _part(source / TEST, is_test=True)
    if not training.sources and not training.problems:
        raise DatasetError(f"{source / IMAGES}: no images; expected one for every label. Copy them again.")
    instances = training.instances
    if test.instances != instances and any(one.label for one in test.sources):
        raise DatasetError(f"{source / TEST}: labels of another kind than in {source}; expected both the same.")
    sources, problems = training.sources + test.sources, training.problems + test.problems
    if options.pages == "images":
        found = [paged(one) for one in sources]
        sources = [one for one in found if isinstance(one, Source)]
        problems += [one for one in found if isinstance(one, Problem)]
    labels = options.labels or (_OBJECT if instances else {})
    return Listing(tuple(sources), tuple(problems), labels, instances, options.pages)


def _part(folder: Path, is_test: bool) -> _Part:
    images = list_images(folder / IMAGES)
    places = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    labels, problems = _labels(places[0]) if places else ({}, [])
    problems += [_not_taken(place, places[0]) for place in places[1:]]
    if not places and not is_test:
        raise DatasetError(f"{folder}: no labels; expected one of {_LABEL_PLACES}. Put them beside {IMAGES}/.")
    sources = [Source(case_name(image), image, labels.get(case_name(image)), is_test) for image in images]
    named = {one.name for one in sources}
    problems += [_unpaired(path, "image") for name, path in labels.items() if name not in named]
    if places:
        problems += [_unpaired(one.image, "label") for one in sources if one.label is None]
        sources = [one for one in sources if one.label is not None]
    is_numbered = bool(places) and (places[0].name == INSTANCES or any(path.is_dir() for path in labels.values()))
    return _Part(sources, problems, is_numbered)


def _labels(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """The labels of a folder by case: files, or folders of one mask an object."""
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    found: dict[str, list[Path]] = {}
    for name, path in _named(folders, list_images(folder)):
        found.setdefault(name, []).append(path)
    problems = [_several(name, paths) for name, paths in sorted(found.items()) if len(paths) > 1]
    return {name: paths[0] for name, paths in sorted(found.items()) if len(paths) == 1}, problems


def _named(folders: Iterable[Path], files: Iterable[Path]) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in folders] + [(case_name(path), path) for path in files]


def _several(name: str, paths: list[Path]) -> Problem:
    found = "several labels of one case: " + ", ".join(path.name for path in paths)
    return Problem(name, str(paths[0].parent), found, "one label a case", "Keep one of them.")


def _unpaired(path: Path, what: str) -> Problem:
    name = path.name if path.is_dir() else case_name(path)
    remedy = f"Add the {what} of that name, or move this file away."
    return Problem(name, str(path), f"no {what} of this name", "images and labels of the same names", remedy)


def _not_taken(place: Path, taken: Path) -> Problem:
    return Problem("", str(place), f"labels beside {taken.name}/", "one folder of labels", "Not taken.", "note")


FOLDER = Challenge(name="folder", title="A folder of images beside one of labels", url="", list_cases=list_cases)
