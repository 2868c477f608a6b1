"""ISBI 2012 membranes: stacks of electron microscopy; a TIFF of probabilities, 1 inside a cell and 0 on a membrane.

Source: http://brainiac2.mit.edu/isbi_challenge/; the type and the meaning of values as nnU-Net's
`Task058_ISBI_EM_SEG.py` submitted them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from msseg.challenges.challenge import Challenge, ConversionOptions, Fault, SubmissionOptions
from msseg.challenges.float_stack import check_float_stack, write_float_stack
from msseg.challenges.image_list import image_shapes, in_natural_order
from msseg.challenges.object_masks import read_mask, refuse_missing
from msseg.challenges.paging import paged
from msseg.challenges.probability_folder import ENDING, probability_files
from msseg.challenges.source import Listing, Source
from msseg.data.image import read_geometry
from msseg.data.problems import FileError, Problem
from msseg.errors import DatasetError
from msseg.evaluation.pairs import label_files

_TRAINING, _LABELS, _TEST = "train-volume.tif", "train-labels.tif", "test-volume.tif"
_CASE, _TEST_CASE = "em", "em_test"
_INTERIOR = {"interior": 255}
_MEMBRANE = "membrane"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_CHALLENGE_PAGES = ((512, 512),) * 30


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """A case of every page of `train-volume.tif` with `train-labels.tif`, and of `test-volume.tif`."""
    for name in (_TRAINING, _LABELS):
        if not (source / name).is_file():
            raise DatasetError(
                f"{source / name}: no such file; expected {_TRAINING}, {_LABELS} and {_TEST} unpacked in {source}."
            )
    stacks = [Source(_CASE, source / _TRAINING, source / _LABELS)]
    if (source / _TEST).is_file():
        stacks.append(Source(_TEST_CASE, source / _TEST, is_test=True))
    found = [paged(stack, single=True) for stack in stacks]
    sources = tuple(one for one in found if isinstance(one, Source))
    problems = tuple(one for one in found if isinstance(one, Problem))
    return Listing(sources, problems, options.labels or _INTERIOR, instances=False, pages="images")


def write(predictions: Path, path: Path, options: SubmissionOptions) -> list[str]:
    """Write the TIFF of a folder of probabilities, or of masks where there are none; pages in the order of names."""
    files = probability_files(predictions)
    masks = {} if files else label_files(predictions)
    names = in_natural_order(list(files or masks))
    if not names:
        raise DatasetError(
            f"{predictions}: neither <case>{ENDING} nor masks; expected those of every image. "
            "Predict them with msseg_predict --save-probabilities."
        )
    if options.images is not None and options.images.is_dir():
        refuse_missing(predictions, dict.fromkeys(names, predictions), image_shapes(options.images))
    pages = _interior(names, files) if files else _certain(names, masks)
    count = write_float_stack(path, pages)
    order = f"{count} pages in the order of the names, {names[0]} to {names[-1]}."
    return [order] if files else [order, _NO_PROBABILITIES]


_NO_PROBABILITIES = (
    "Warning: masks hold no probabilities, so that every pixel is 0 or 1, and the challenge's search over thresholds "
    "has nothing to search. Predict with --save-probabilities."
)


def check(path: Path, images: Path | None) -> list[Fault]:
    """Every fault of a TIFF; `images` is the folder of the test images or their stack (else 30 pages of 512 x 512)."""
    return check_float_stack(path, _CHALLENGE_PAGES if images is None else _page_shapes(images))


def recognise(path: Path) -> bool:
    """Whether a file begins as a TIFF does."""
    with path.open("rb") as stream:
        return stream.read(4) in _TIFF_STARTS


def _page_shapes(images: Path) -> list[tuple[int, int]]:
    if images.is_file():
        pages, *shape = read_geometry(images).shape
        return [(shape[0], shape[1])] * pages
    shapes = image_shapes(images)
    return [shapes[name][1:] for name in in_natural_order(list(shapes))]


def _interior(names: list[str], files: Mapping[str, Path]) -> Iterator[np.ndarray]:
    """The probability of the inside of a cell (y, x) of every case."""
    from msseg.inference.probability_files import read_probabilities

    for name in names:
        stored = read_probabilities(files[name])
        if stored.probabilities.shape[1] != 1:
            slices = stored.probabilities.shape[1]
            raise FileError(files[name], f"{slices} slices", "a flat image", "Predict the images one by one.")
        membrane = stored.called(_MEMBRANE)
        yield (stored.foreground() if membrane is None else 1 - membrane)[0]


def _certain(names: list[str], masks: Mapping[str, Path]) -> Iterator[np.ndarray]:
    for name in names:
        yield read_mask(masks[name]) != 0


ISBI2012 = Challenge(
    name="isbi2012",
    title="ISBI 2012, membranes in electron microscopy",
    url="http://brainiac2.mit.edu/isbi_challenge/",
    list_cases=list_cases,
    write=write,
    check=check,
    recognise=recognise,
)
