"""CSV files of one row an object, `ImageId,EncodedPixels`: written, and checked line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.challenges.challenge import Fault
from msseg.challenges.run_length import RunLengthError, encode_objects, order_fault, runs_from_text, runs_text
from msseg.challenges.text_lines import read_submission_text, text_lines

HEADER = "ImageId,EncodedPixels"
_WRITE_AGAIN = "Write the file again with msseg_submit."
_SHOWN = 40


@dataclass(frozen=True)
class ObjectCounts:
    """How many images a file has rows of, how many of them without an object, and how many objects in all."""

    images: int
    empty: int
    objects: int


@dataclass(frozen=True)
class _Row:
    line: int
    image: str
    runs: np.ndarray


def write_object_rows(path: Path, objects: Iterable[tuple[str, np.ndarray]]) -> ObjectCounts:
    """Write a row for every object of images (name, object numbers (y, x)); one without pixels where there is none."""
    images = empty = rows = 0
    with Path(path).open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(HEADER + "\n")
        for name, ids in objects:
            encoded = encode_objects(ids)
            stream.writelines(f"{name},{runs_text(runs)}\n" for runs in encoded.values())
            if not encoded:
                stream.write(f"{name},\n")
            images, empty, rows = images + 1, empty + (not encoded), rows + len(encoded)
    return ObjectCounts(images, empty, rows)


def check_object_rows(path: Path, shapes: Mapping[str, tuple[int, int, int]] | None = None) -> list[Fault]:
    """Every fault of the file by line; `shapes` (z, y, x) of the challenge's images tell ids and sizes.

    Found are: too many bytes, text that is not UTF-8, another header, rows of other than two fields, encodings of
    anything but pairs of whole numbers, runs out of order, runs that overlap in an object or between two, runs that
    leave the image, an empty row beside others of its image, images that are unknown or have no row.
    """
    text = read_submission_text(Path(path))
    if isinstance(text, Fault):
        return [text]
    faults = _Faults(path)
    lines = text_lines(text)
    if not lines or lines[0] != HEADER:
        found = f"the header {_short(lines[0])!r}" if lines else "an empty file"
        faults.add(1, found, f"{HEADER!r}", "Write this line first.")
    rows = [row for number, line in enumerate(lines[1:], start=2) if (row := _parsed(faults, number, line))]
    by_image: dict[str, list[_Row]] = {}
    for row in rows:
        by_image.setdefault(row.image, []).append(row)
    for of_image in by_image.values():
        _check_image(faults, of_image)
    if shapes is not None:
        _check_against(faults, by_image, shapes)
    return faults.sorted()


class _Faults:
    """The faults of one file as they are found."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.found: list[Fault] = []

    def at(self, line: int | None, found: str, expected: str, remedy: str) -> Fault:
        return Fault(self.path, line, found, expected, remedy)

    def add(self, line: int | None, found: str, expected: str, remedy: str) -> None:
        self.found.append(self.at(line, found, expected, remedy))

    def sorted(self) -> list[Fault]:
        """By line, those of the whole file last."""
        return sorted(self.found, key=lambda fault: (fault.line is None, fault.line or 0))


def _parsed(faults: _Faults, number: int, line: str) -> _Row | None:
    """The row, None where it cannot be read."""
    fields = line.split(",")
    if len(fields) != 2 or not fields[0] or fields[0] != fields[0].strip() or '"' in line:
        faults.add(number, f"the row {_short(line)!r}", "an image id, a comma, an encoding", _WRITE_AGAIN)
        return None
    try:
        runs = runs_from_text(fields[1])
    except RunLengthError as error:
        faults.add(number, error.found, error.expected, _WRITE_AGAIN)
        return None
    disorder = order_fault(runs)
    if disorder is not None:
        faults.add(number, disorder.found, disorder.expected, _WRITE_AGAIN)
    return _Row(number, fields[0], runs)


def _check_image(faults: _Faults, rows: Sequence[_Row]) -> None:
    """Empty rows beside others, and pixels that two objects of the image have."""
    first = rows[0]
    for row in rows:
        other = first if row is not first else rows[-1]
        if not len(row.runs) and row is not other:
            found = f"an empty encoding of image {row.image}, which has line {other.line} too"
            faults.add(row.line, found, "one empty row for an image without objects", "Delete this line.")
    _check_overlaps(faults, [row for row in rows if len(row.runs)])


def _check_overlaps(faults: _Faults, rows: Sequence[_Row]) -> None:
    if len(rows) < 2:
        return
    runs = np.concatenate([row.runs for row in rows])
    line = np.repeat([row.line for row in rows], [len(row.runs) for row in rows])
    order = np.lexsort((line, runs[:, 0]))
    starts, ends, line = runs[order, 0], runs[order].sum(axis=1), line[order]
    is_farthest = ends == np.maximum.accumulate(ends)
    farthest = np.maximum.accumulate(np.where(is_farthest, np.arange(len(ends)), 0))  # of the runs up to each
    here = np.flatnonzero(starts[1:] < ends[farthest[:-1]]) + 1
    pairs = np.sort(np.stack([line[farthest[here - 1]], line[here]], axis=1), axis=1)
    _, kept = np.unique(pairs, axis=0, return_index=True)
    for (earlier, later), pixel in zip(pairs[kept].tolist(), starts[here[kept]].tolist(), strict=True):
        if earlier != later:
            found = f"pixel {pixel} of image {rows[0].image}, which line {earlier} has too"
            faults.add(later, found, "every pixel in one object", "Give it to one of them.")


def _check_against(
    faults: _Faults, by_image: Mapping[str, Sequence[_Row]], shapes: Mapping[str, tuple[int, int, int]]
) -> None:
    for image, rows in by_image.items():
        if image not in shapes:
            faults.add(rows[0].line, f"the unknown image {image}", "an image of the challenge", "Take its rows out.")
            continue
        _, height, width = shapes[image]
        for row in rows:
            last = int(row.runs.sum(axis=1).max()) - 1 if len(row.runs) else 0
            if last > height * width:
                expected = f"at most {height * width}, as it has {width} x {height}"
                faults.add(row.line, f"pixel {last} of image {image}", expected, "Encode it at the image's own size.")
    for image in sorted(shapes.keys() - by_image.keys()):
        faults.add(None, f"no row of image {image}", "at least one", "Add its objects, or a row without pixels.")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
