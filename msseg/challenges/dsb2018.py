"""Data Science Bowl 2018: nuclei of many kinds, one mask an object; a CSV of run lengths, one row an object.

Source: https://www.kaggle.com/c/data-science-bowl-2018, "Evaluation": pixels count from 1 from top to bottom, then from
left to right; runs are sorted, and no two objects of an image overlap.
"""

from __future__ import annotations

from pathlib import Path

from msseg.challenges.challenge import Challenge, ConversionOptions, Fault, SubmissionOptions
from msseg.challenges.image_list import image_shapes
from msseg.challenges.object_masks import meaning_of, objects_of, refuse_missing
from msseg.challenges.object_rows import HEADER, check_object_rows, write_object_rows
from msseg.challenges.source import Listing, Source
from msseg.challenges.text_lines import first_line
from msseg.data.cases import list_images
from msseg.data.problems import Problem
from msseg.errors import DatasetError
from msseg.evaluation.pairs import label_files

_TRAINING, _TEST = "stage1_train", "stage1_test"
_LABEL = "nucleus"


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """The nuclei of `stage1_train/<id>/images, masks`, and the images of `stage1_test`."""
    training = source / _TRAINING if (source / _TRAINING).is_dir() else source
    sources, problems = _cases(training, is_test=False)
    if not sources and not problems:
        raise DatasetError(
            f"{source}: no {_TRAINING}/<id>/images; expected the unpacked folder of the challenge, not its archives. "
            "Unpack stage1_train.zip first, or use --from folder for images/ and masks/."
        )
    tests, test_problems = _cases(source / _TEST, is_test=True)
    labels = options.labels or {_LABEL: 1}
    return Listing((*sources, *tests), (*problems, *test_problems), labels, instances=True)


def write(predictions: Path, path: Path, options: SubmissionOptions) -> list[str]:
    """Write the CSV of a folder of masks: object numbers, or one value whose connected components are the objects."""
    files = label_files(predictions)
    if not files:
        raise DatasetError(f"{predictions}: no masks; expected one of every image. Predict them with msseg_predict.")
    shapes = {} if options.images is None else image_shapes(options.images)
    if shapes:
        refuse_missing(predictions, files, shapes)
    masks = meaning_of(files, options.masks)
    counts = write_object_rows(path, objects_of(files, masks, shapes))
    said = {
        "instances": "Every value of a mask is one object.",
        "semantic": "Masks of one value: their connected components (8 neighbours) are the objects.",
    }
    notes = [f"{counts.objects} objects in {counts.images} images, {counts.empty} of them without any.", said[masks]]
    return notes if shapes else [*notes, _UNCHECKED]


_UNCHECKED = "Image ids and sizes were not checked: give the challenge's images with -r."


def check(path: Path, images: Path | None) -> list[Fault]:
    """Every fault of a CSV; ids and sizes are checked where the folder of the images is given."""
    return check_object_rows(path, None if images is None else image_shapes(images))


def recognise(path: Path) -> bool:
    """Whether the first line is that of the challenge."""
    return first_line(path) == HEADER


def _cases(folder: Path, is_test: bool) -> tuple[list[Source], list[Problem]]:
    sources, problems = [], []
    for case in sorted(folder.iterdir()) if folder.is_dir() else []:
        if case.name.startswith(".") or not (case / "images").is_dir():
            continue
        images, masks = list_images(case / "images"), case / "masks"
        if len(images) != 1:
            problems.append(_incomplete(case / "images", f"{len(images)} images", "one image"))
        elif not is_test and not masks.is_dir():
            problems.append(_incomplete(masks, "no such folder", "one mask for every object"))
        else:
            sources.append(Source(case.name, images[0], None if is_test else masks, is_test))
    return sources, problems


def _incomplete(folder: Path, found: str, expected: str) -> Problem:
    return Problem(folder.parent.name, str(folder), found, expected, "Unpack the archive again.")


DSB2018 = Challenge(
    name="dsb2018",
    title="Data Science Bowl 2018, nuclei",
    url="https://www.kaggle.com/c/data-science-bowl-2018",
    list_cases=list_cases,
    write=write,
    check=check,
    recognise=recognise,
)
