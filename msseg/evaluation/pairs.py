"""Which prediction belongs to which reference: file names only, nothing is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msseg.data.image import IMAGE_ENDINGS, image_ending
from msseg.errors import DatasetError

_CHANNEL_SUFFIX = "_0000"
MASKS = "masks"  # where a case's own folder holds one mask an object


@dataclass(frozen=True)
class Pair:
    """One case with both of its files."""

    name: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class Pairing:
    """What two folders hold: whole pairs, references without a prediction, predictions without a reference."""

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def pair_files(prediction_folder: Path, reference_folder: Path) -> Pairing:
    """The files of the two folders matched by case name, whatever their endings and a `_0000` on one side.

    Raises DatasetError where a folder is missing, holds no label file, or two files of one case.
    """
    predictions, references = label_files(prediction_folder), label_files(reference_folder)
    if not references:
        raise DatasetError(
            f"{reference_folder}: no label file found; expected names ending in {', '.join(IMAGE_ENDINGS)}."
        )
    chosen = {name: _counterpart(name, predictions) for name in references}
    pairs = tuple(
        Pair(name, predictions[match], references[name]) for name, match in chosen.items() if match is not None
    )
    missing = tuple(name for name, match in chosen.items() if match is None)
    unexpected = tuple(name for name in predictions if name not in chosen.values())
    return Pairing(pairs, missing, unexpected)


def label_files(folder: Path) -> dict[str, Path]:
    """The label files of a folder by case name, sorted; hidden files and other endings are left out.

    A folder that holds a folder `masks` is a case too: that folder, of one mask an object, is its label.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder. Give the folder that holds the label files.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = _case_name(path)
        if (path / MASKS).is_dir() and not path.name.startswith("."):
            name, path = path.name, path / MASKS
        elif name is None or not path.is_file():
            continue
        if name in files:
            raise DatasetError(f"{path}: the same case as {files[name].name}; keep one file a case.")
        files[name] = path
    return files


def _case_name(path: Path) -> str | None:
    """The file name without its image ending; None for hidden files and files of other kinds."""
    ending = image_ending(path)
    return None if ending is None or path.name.startswith(".") else path.name[: -len(ending)]


def _counterpart(name: str, candidates: dict[str, Path]) -> str | None:
    for spelling in (name, name + _CHANNEL_SUFFIX, name.removesuffix(_CHANNEL_SUFFIX)):
        if spelling in candidates:
            return spelling
    return None
