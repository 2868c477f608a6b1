"""Cases, and how the files of a folder group into them by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msseg.data.image import IMAGE_ENDINGS, PICTURE_ENDINGS, image_ending
from msseg.data.problems import Problem
from msseg.errors import DatasetError

_CHANNEL_SUFFIX = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@dataclass(frozen=True)
class Case:
    """One patient or picture: its image as one file per channel (or one 4-D or colour file), its label if it has one.

    The label is a file, or a folder of one mask per object.
    """

    name: str
    image_paths: tuple[Path, ...]
    label_path: Path | None = None


def find_images(folder: Path, channels: int) -> tuple[list[Case], list[Problem]]:
    """The cases of a folder of images to segment, by name, and a problem for every case that cannot be run.

    One channel: `x.nii.gz` or `x_0000.nii.gz` is case x. Several: `x_0000.nii.gz`, `x_0001.nii.gz`, …, or `x.nii.gz`,
    which is taken to be 4-D. A picture `x_0000.png` holds all channels where no other picture is of another channel;
    pictures of more numbers than channels (`x_0000.png` to `x_0099.png`) are cases of their own. Raises
    DatasetError for a folder that is missing or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected a folder of images. Name one with -i.")
    files = list_images(folder)
    if not files:
        raise DatasetError(f"{folder}: no images; expected files ending in {', '.join(IMAGE_ENDINGS)}.")
    plain, grouped = _group(files, channels)
    return _join(folder, plain, grouped, channels)


def list_images(folder: Path, ending: str | None = None) -> list[Path]:
    """The image files of a folder by name, of one ending or any; hidden files (macOS writes `._x`) are not images."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and ending in (None, image_ending(path)) and image_ending(path)
    )


def case_name(path: Path) -> str:
    """The file name without its image ending."""
    ending = image_ending(path) or path.suffix
    return path.name.removesuffix(path.name[len(path.name) - len(ending) :]) if ending else path.name


def split_channel(name: str) -> tuple[str, int | None]:
    """The case and channel of a name such as `patient_7_0001`; channel None where the name has no such suffix."""
    match = _CHANNEL_SUFFIX.fullmatch(name)
    return (match["case"], int(match["channel"])) if match else (name, None)


def _group(files: Iterable[Path], channels: int) -> tuple[dict[str, list[Path]], dict[str, dict[int, list[Path]]]]:
    """Files by plain name, and files by case and channel.

    A group without any channel the model has (`scan_2019`, `scan_2020`) is one of plain names that end in a number,
    and so are pictures of more numbers than there are channels.
    """
    plain: dict[str, list[Path]] = {}
    grouped: dict[str, dict[int, list[Path]]] = {}
    for path in files:
        case, channel = split_channel(case_name(path))
        if channel is None:
            plain.setdefault(case, []).append(path)
        else:
            grouped.setdefault(case, {}).setdefault(channel, []).append(path)
    first_channels = set(range(channels)) if channels > 1 else {0}
    for case in [case for case, group in grouped.items() if _is_numbered(group, first_channels)]:
        for path in (path for paths in grouped.pop(case).values() for path in paths):
            plain.setdefault(case_name(path), []).append(path)
    return plain, grouped


def _is_numbered(group: Mapping[int, Sequence[Path]], first_channels: set[int]) -> bool:
    """Whether the numbers of files of one name are no channels."""
    has_more = bool(group.keys() - first_channels) and all(
        _is_picture(path) for paths in group.values() for path in paths
    )
    return has_more or not first_channels & group.keys()


def _is_picture(path: Path) -> bool:
    return image_ending(path) in PICTURE_ENDINGS


def _join(
    folder: Path, plain: Mapping[str, list[Path]], grouped: Mapping[str, dict[int, list[Path]]], channels: int
) -> tuple[list[Case], list[Problem]]:
    cases, problems = [], []
    if all(group.keys() == {0} for group in grouped.values()):
        plain, grouped = _with_lone_pictures(plain, grouped)
    for name in sorted(plain.keys() | grouped.keys()):
        by_channel = grouped.get(name, {})
        problem = _name_problem(folder, name, plain.get(name, []), by_channel, channels)
        if problem:
            problems.append(problem)
            continue
        paths = plain[name] if name in plain else [by_channel[channel][0] for channel in range(channels)]
        cases.append(Case(name, tuple(paths)))
    return cases, problems


def _with_lone_pictures(
    plain: Mapping[str, list[Path]], grouped: Mapping[str, dict[int, list[Path]]]
) -> tuple[dict[str, list[Path]], dict[str, dict[int, list[Path]]]]:
    """The same with pictures of the first channel, of which one holds all channels, among the plain names."""
    lone = {name: group for name, group in grouped.items() if all(_is_picture(path) for path in group[0])}
    joined = {name: list(paths) for name, paths in plain.items()}
    for name, group in lone.items():
        joined[name] = [*joined.get(name, []), *group[0]]
    return joined, {name: group for name, group in grouped.items() if name not in lone}


def _name_problem(
    folder: Path, name: str, plain: Sequence[Path], by_channel: Mapping[int, Sequence[Path]], channels: int
) -> Problem | None:
    """Why the files of one case name make no case, None where they do."""
    files = [*plain, *(path for channel in sorted(by_channel) for path in by_channel[channel])]
    wanted = f"{name}_0000 to {name}_{channels - 1:04d}" if channels > 1 else f"{name} or {name}_0000"
    missing = sorted(set(range(channels)) - by_channel.keys())
    if (plain and by_channel) or len(plain) > 1 or any(len(paths) > 1 for paths in by_channel.values()):
        found, remedy = "several files for one case: " + ", ".join(p.name for p in files), "Keep one of them."
    elif by_channel and missing:
        found = "no channel " + ", ".join(f"_{channel:04d}" for channel in missing)
        remedy = "Add the missing files, or rename the file without _NNNN if it holds all channels."
    elif by_channel and len(by_channel) > channels:
        found, remedy = f"{len(by_channel)} channels", f"Keep the {channels} that the model was trained on."
    else:
        return None
    return Problem(name, str(files[0] if len(files) == 1 else folder), found, wanted, remedy)
