"""CHAOS' submission: a zip of a grey PNG a slice, numbered as the DICOM files are.

`Task5/MR/1/T2SPIR/Results/img000.png` is the first slice of patient 1 in one sequence.
Source: the submission template of https://chaos.grand-challenge.org as participants filled it (nnU-Net's
`Task037_038_Chaos_Challenge.py`): its folders, and the grey values of the masks of its data: 255 for the liver in CT;
in MR liver 63, right kidney 126, left kidney 189, spleen 252.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.challenges.challenge import Fault, SubmissionOptions
from msseg.challenges.dicom_slices import DicomSlices, order_of_slices, read_dicom_slices
from msseg.challenges.image_list import in_natural_order
from msseg.challenges.label_archive import challenge_values
from msseg.challenges.named_files import named_predictions
from msseg.challenges.object_masks import refuse_missing
from msseg.challenges.zip_members import UNREADABLE, member_names, pack, zip_members
from msseg.data.geometry import Geometry
from msseg.data.image import read_label, write_label
from msseg.errors import DatasetError

_LIVER_CT, _LIVER_MR = (0, 255), (0, 63)
_ORGANS_MR = (0, 63, 126, 189, 252)
_CONSECUTIVE = dict(enumerate(_ORGANS_MR[1:], start=1))  # of models that number the organs
_CT_VALUES = {1: 255, 63: 255}
_MOST_PIXELS = 1 << 24
_REMEDY = "Write the file again with msseg_submit."


@dataclass(frozen=True)
class _Task:
    """The modalities of a task, and the values of its masks in MR."""

    modalities: tuple[str, ...]
    mr_values: tuple[int, ...]


_TASKS = {
    "Task1": _Task(("CT", "MR"), _LIVER_MR),
    "Task2": _Task(("CT",), _LIVER_MR),
    "Task3": _Task(("MR",), _LIVER_MR),
    "Task4": _Task(("CT", "MR"), _ORGANS_MR),
    "Task5": _Task(("MR",), _ORGANS_MR),
}
_SERIES = r"(?:CT/\d+|MR/\d+/(?:T1DUAL|T2SPIR))"
_MEMBER = re.compile(rf"(?P<task>Task[1-5])/(?P<series>{_SERIES})/Results/img(?P<number>\d{{3}})\.png")
_EXAMPLE = "Task5/MR/1/T2SPIR/Results/img000.png"
_PREDICTION = re.compile(r"(?:.*/)?(?:(?P<ct>CT)|(?P<mr>T1DUAL|T2SPIR))_(?P<patient>\d+)")
_FOLDER = re.compile(
    r"(?:.*/)?(?P<ct>CT/\d+)/DICOM_anon|(?:.*/)?(?P<mr>MR/\d+/(?:T1DUAL|T2SPIR))/DICOM_anon(?:/InPhase)?"
)


def write(predictions: Path, path: Path, options: SubmissionOptions) -> list[str]:
    """Write the zip of the task that the predictions are for: `CT_1`, `T1DUAL_1` and `T2SPIR_1` of every patient.

    Needs the folder of the challenge's images: the order of slices is that of its DICOM files. Raises DatasetError
    without it and for names that are no case's, FileError for a prediction that is not on the grid of its series.
    """
    if options.images is None:
        raise DatasetError(
            f"{predictions}: slices are numbered as the DICOM files are; expected the challenge's Test_Sets/. "
            "Name it with -r."
        )
    found = named_predictions(predictions, _series_of, "CT_1, T1DUAL_1 or T2SPIR_1")
    folders = series_folders(options.images)
    task = _task_of(found)
    refuse_missing(predictions, found, {s: f for s, f in folders.items() if s[:2] in _TASKS[task].modalities})
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        count = pack(path, _written(task, found, folders, Path(folder) / "slice.png"))
    return [f"{task}: {count} slices of {len(found)} series."]


def check(path: Path, images: Path | None) -> list[Fault]:
    """Every fault of a zip: names, pictures, values, numbering, series that lack; with images, counts and sizes."""
    infos, faults = zip_members(path)
    if not infos and faults:
        return faults
    series = {} if images is None else {name: read_dicom_slices(f) for name, f in series_folders(images).items()}
    numbers: dict[tuple[str, str], list[int]] = {}
    with zipfile.ZipFile(path) as archive:
        for info in infos:
            match = _MEMBER.fullmatch(info.filename)
            if match is None:
                expected = f"names such as {_EXAMPLE}"
                faults.append(Fault(path, None, "a name of no slice", expected, "Take it out.", member=info.filename))
                continue
            numbers.setdefault((match["task"], match["series"]), []).append(int(match["number"]))
            wrong = _slice_fault(archive, info, _values(match["task"], match["series"]), series.get(match["series"]))
            faults += [Fault(path, None, *wrong, member=info.filename)] if wrong is not None else []
    return faults + [Fault(path, None, *wrong) for wrong in _folder_faults(numbers, series)]


def recognise(path: Path) -> bool:
    """Whether a file is a zip with a slice named as in this challenge."""
    return any(_MEMBER.fullmatch(name) for name in member_names(path))


def series_folders(images: Path) -> dict[str, Path]:
    """The folders of DICOM files below Test_Sets/ by series (`CT/2`, `MR/1/T1DUAL`); of T1DUAL that in phase."""
    found: dict[str, Path] = {}
    for folder in sorted(path for path in images.rglob("*") if path.is_dir()) if images.is_dir() else []:
        match = _FOLDER.fullmatch(folder.relative_to(images).as_posix())
        if match:  # InPhase comes after the folder that it is in
            found[match["ct"] or match["mr"]] = folder
    if not found:
        raise DatasetError(f"{images}: no CT/1/DICOM_anon or MR/1/T2SPIR/DICOM_anon; expected the unpacked Test_Sets/.")
    return found


def _series_of(name: str) -> str | None:
    match = _PREDICTION.fullmatch(name)
    if match is None:
        return None
    return f"CT/{match['patient']}" if match["ct"] else f"MR/{match['patient']}/{match['mr']}"


def _task_of(found: Mapping[str, Path]) -> str:
    """The task of these modalities: of all organs as soon as one prediction in MR has another than the liver."""
    modalities = tuple(sorted({series[:2] for series in found}))
    organs = any(_has_other_organs(path) for series, path in found.items() if series.startswith("MR"))
    values = _ORGANS_MR if organs else _LIVER_MR
    return next(name for name, task in _TASKS.items() if task.modalities == modalities and task.mr_values == values)


def _has_other_organs(path: Path) -> bool:
    return bool(set(np.unique(read_label(path)[0]).tolist()) - {0, 1, 63})


def _values(task: str, series: str) -> tuple[int, ...]:
    return _LIVER_CT if series.startswith("CT") else _TASKS[task].mr_values


def _written(
    task: str, found: Mapping[str, Path], folders: Mapping[str, Path], file: Path
) -> Iterator[tuple[str, Path]]:
    """Name and file of every slice; the file is another one when the next slice is asked for."""
    for series in in_natural_order(list(found)):
        label, geometry = read_label(found[series])
        replaced = _CT_VALUES if series.startswith("CT") else _CONSECUTIVE
        grey = challenge_values(found[series], label, _values(task, series), replaced)
        flat = Geometry((1, *geometry.shape[1:]), (1.0, 1.0, 1.0), has_spacing=False)
        for number, z in enumerate(order_of_slices(found[series], geometry, read_dicom_slices(folders[series]))):
            write_label(file, grey[z][None], flat)
            yield f"{task}/{series}/Results/img{number:03d}.png", file


def _slice_fault(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, allowed: tuple[int, ...], series: DicomSlices | None
) -> tuple[str, str, str] | None:
    """What was found, what was expected and what to do, None for a slice as it should be."""
    from PIL import Image

    try:
        with (
            archive.open(info) as stream,
            Image.open(io.BytesIO(stream.read(_MOST_PIXELS)), formats=["PNG"]) as picture,
        ):
            width, height = picture.size
            if picture.mode != "L":
                return f"a picture of kind {picture.mode}", "8 bits of grey", _REMEDY
            if width * height > _MOST_PIXELS or (series is not None and (width, height) != series.size_xy):
                expected = "{} x {} as its image has".format(*series.size_xy) if series else "the size of its image"
                return f"{width} x {height} pixels", expected, "Keep the size of the images."
            values = np.unique(np.asarray(picture)).tolist()
    except (*UNREADABLE, SyntaxError, ValueError, Image.DecompressionBombWarning) as error:
        return f"no readable PNG ({error})", "a PNG file", _REMEDY
    other = [value for value in values if value not in allowed]
    if not other:
        return None
    found = ", ".join(map(str, other[:8])) + (" and more" if len(other) > 8 else "")
    return f"grey values {found}", ", ".join(map(str, allowed)), "Write these values alone."


def _folder_faults(
    numbers: Mapping[tuple[str, str], list[int]], series: Mapping[str, DicomSlices]
) -> Iterator[tuple[str, str, str]]:
    """Slices and series that are too few or too many."""
    for (task, name), found in sorted(numbers.items()):
        wanted = len(series[name].positions_mm) if name in series else len(found)
        if series and name not in series:
            yield f"{task}/{name}, an unknown series", "those of the test images", "Take it out."
        elif sorted(found) != list(range(wanted)):
            counted = f"img000.png to img{wanted - 1:03d}.png, one a slice"
            yield f"{len(found)} slices in {task}/{name}/Results, up to img{max(found):03d}.png", counted, _REMEDY
    tasks = sorted({task for task, _ in numbers})
    if not tasks:
        yield "no slice", f"names such as {_EXAMPLE}", _REMEDY
    for task in tasks:
        have = {name for of, name in numbers if of == task}
        for name in in_natural_order(list(_wanted(task, have, series) - have)):
            yield f"no {task}/{name}", "every series of its test images", "Add its prediction."


def _wanted(task: str, have: set[str], series: Mapping[str, DicomSlices]) -> set[str]:
    """The series of a task: of the images where known, else each modality, and both sequences of every patient."""
    modalities = _TASKS[task].modalities
    if series:
        return {name for name in series if name[:2] in modalities}
    patients = {name.split("/")[1] for name in have if name.startswith("MR")} or {"1"}
    both = {f"MR/{patient}/{sequence}" for patient in patients for sequence in ("T1DUAL", "T2SPIR")}
    ct = set() if any(name.startswith("CT") for name in have) else {"CT/1"}
    return (both if "MR" in modalities else set()) | (ct if "CT" in modalities else set())
