"""Which folders are data sets without a dataset.json, told by the names of folders alone (pathlib, nothing heavy)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

IMAGES = "images"
MASKS = "masks"
INSTANCES = "instances"
LABEL_FOLDERS = (INSTANCES, "labels", MASKS)
STAGE_TRAIN, STAGE_TEST = "stage1_train", "stage1_test"
TEST = "test"


@dataclass(frozen=True)
class FoundLayout:
    """Where a layout keeps its files: one pair of folders, or a folder with both in it for every case.

    `labels` and `others` (label folders that are there and not taken) are of a pair, None and () else. `test` is the
    folder of images, or of folders a case, without labels.
    """

    images: Path
    labels: Path | None
    others: tuple[Path, ...]
    test: Path | None

    @property
    def is_by_case(self) -> bool:
        """Whether every case has a folder of its own, as the Data Science Bowl 2018 has."""
        return self.labels is None


def found_layout(folder: Path) -> FoundLayout | None:
    """The layout of a folder: `images/` beside `instances/`, `labels/` or `masks/`, or the Data Science Bowl's."""
    if (folder / IMAGES).is_dir():
        labels = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
        test = _folder(folder / TEST / IMAGES) or _folder(folder / f"{IMAGES}_{TEST}")
        return FoundLayout(folder / IMAGES, labels[0], tuple(labels[1:]), test) if labels else None
    stage = folder / STAGE_TRAIN
    if _has_cases(stage):
        return FoundLayout(stage, None, (), _folder(folder / STAGE_TEST))
    return FoundLayout(folder, None, (), None) if _has_cases(folder) else None


def is_data_set(folder: Path) -> bool:
    """Whether `read_dataset` finds a data set there, whatever its files hold."""
    return (folder / "dataset.json").is_file() or found_layout(folder) is not None


def case_folders(folder: Path) -> list[Path]:
    """The folders of one case each, by name."""
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and (path / IMAGES).is_dir())
    return sorted(found)


def _has_cases(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any((path / IMAGES).is_dir() and (path / MASKS).is_dir() for path in folder.iterdir())


def _folder(path: Path) -> Path | None:
    return path if path.is_dir() else None
