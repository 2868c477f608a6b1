"""Every layout through the command, as a miniature of two cases, and what comes out through the check of a data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from msseg.challenges.table import CHALLENGES
from msseg.commands import convert, plan_and_preprocess
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.files import read_json

SHAPE = (6, 14, 16)
GRID = Geometry(SHAPE, (2.5, 0.8, 0.7), (-10.0, 20.0, 5.0))
Write = Callable[..., list[Path]]


def picture(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def blocks(*values: int) -> np.ndarray:
    """A label map with a block of each value."""
    label = np.zeros(SHAPE, np.uint8)
    for number, value in enumerate(values):
        label[1:4, 2:8, 2 + 3 * number : 4 + 3 * number] = value
    return label


def volumes(folder: Path, names: dict[str, np.ndarray]) -> None:
    """NIfTI files, integers of 8 bits as labels."""
    for name, array in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if array.dtype == np.uint8:
            write_label(folder / name, array, GRID)
        else:
            write_image(folder / name, array[None], GRID)


def kits(folder: Path, room: str, values: tuple[int, ...], write: Write) -> None:
    for seed in (0, 1):
        volumes(
            folder / f"{room}/case_{seed:05d}",
            {"imaging.nii.gz": picture(seed), "segmentation.nii.gz": blocks(*values)},
        )


def lits(folder: Path, write: Write) -> None:
    for seed in (0, 1):
        volumes(folder / "batch", {f"volume-{seed}.nii": picture(seed), f"segmentation-{seed}.nii": blocks(1, 2)})
    volumes(folder / "test", {"test-volume-0.nii": picture(2)})


def brats(
    folder: Path, subjects: tuple[str, str], ends: tuple[str, ...], values: tuple[int, ...], write: Write
) -> None:
    for seed, name in enumerate(subjects):
        *channels, label = ends
        files = {f"{name}{end}.nii.gz": picture(10 * seed + number) for number, end in enumerate(channels)}
        volumes(folder / name, {**files, f"{name}{label}.nii.gz": blocks(*values)})


def acdc(folder: Path, write: Write) -> None:
    for seed, name in enumerate(("patient001", "patient002")):
        for frame in ("01", "12"):
            stem = f"{name}_frame{frame}"
            files = {f"{stem}.nii.gz": picture(10 * seed + int(frame)), f"{stem}_gt.nii.gz": blocks(1, 2, 3)}
            volumes(folder / f"training/{name}", files)
        (folder / f"training/{name}/Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\n")


def masks(folder: Path, label: np.ndarray, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name, mask in zip(names, label, strict=True):
        Image.fromarray(mask).save(folder / f"{name}.png")


def chaos(folder: Path, way: str, phases: tuple[str, ...], values: tuple[int, ...], write: Write) -> None:
    names = [f"i{number:04d},0000b" for number in range(SHAPE[0])]
    for seed in (1, 2):
        patient = folder / "Train_Sets" / way.format(seed)
        for number, phase in enumerate(phases):
            write(patient / "DICOM_anon" / phase, picture(10 * seed + number), names=names)
        masks(patient / "Ground", blocks(*values), names)


def luna(folder: Path, write: Write) -> None:
    (folder / "subset0").mkdir(parents=True)
    rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    for seed in (1, 2):
        image = SimpleITK.GetImageFromArray(picture(seed))
        image.SetOrigin((-100.0, -50.0, 10.0))
        SimpleITK.WriteImage(image, str(folder / f"subset0/1.3.6.1.4.1.14519.{seed}.mhd"))
        rows.append(f"1.3.6.1.4.1.14519.{seed},-95.0,-45.0,12.0,4.0")
    (folder / "annotations.csv").write_text("\n".join(rows))


def lidc(folder: Path, write: Write) -> None:
    corners = [(3, 3), (3, 9), (9, 9), (9, 3), (3, 3)]
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in corners)
    roi = f"<roi><imageZposition>32.5</imageZposition><inclusion>TRUE</inclusion>{edges}</roi>"
    session = f"<readingSession><unblindedReadNodule>{roi}</unblindedReadNodule></readingSession>"
    for seed in (1, 2):
        place = folder / f"LIDC-IDRI-000{seed}/study/series"
        write(place, picture(seed))
        text = f'<LidcReadMessage uid="1" xmlns="http://www.nih.gov">{2 * session}</LidcReadMessage>'
        (place / "069.xml").write_text(text)


def described(folder: Path, channel: str, description: dict[str, object], write: Write) -> None:
    for seed in (1, 2):
        files = {f"imagesTr/spleen_{seed}{channel}.nii.gz": picture(seed), f"labelsTr/spleen_{seed}.nii.gz": blocks(1)}
        volumes(folder, files)
    pairs = [{"image": f"./imagesTr/spleen_{n}.nii.gz", "label": f"./labelsTr/spleen_{n}.nii.gz"} for n in (1, 2)]
    listed = {"training": pairs, "test": []} if "modality" in description else {}
    (folder / "dataset.json").write_text(json.dumps({"name": "Spleen", "numTraining": 2, **description, **listed}))


def dicom(folder: Path, write: Write) -> None:
    for seed in (1, 2):
        write(folder / f"images/case{seed}", picture(seed))
        label = SimpleITK.GetImageFromArray(blocks(1))
        label.CopyInformation(SimpleITK.ReadImage([str(one) for one in _in_order(folder / f"images/case{seed}")]))
        (folder / "labels").mkdir(exist_ok=True)
        SimpleITK.WriteImage(label, str(folder / f"labels/case{seed}.nii.gz"))


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: int(path.stem))


def bowl(folder: Path, write: Write) -> None:
    for seed in (1, 2):
        place = folder / f"stage1_train/image{seed}"
        (place / "images").mkdir(parents=True)
        Image.fromarray((picture(seed, (14, 16)) % 256).astype(np.uint8)).save(place / f"images/image{seed}.png")
        masks(place / "masks", np.stack([blocks(255)[2], np.fliplr(blocks(255)[2])]), ["a", "b"])


def membranes(folder: Path, write: Write) -> None:
    folder.mkdir()
    pages = np.stack([picture(seed, (14, 16)) % 256 for seed in (1, 2)]).astype(np.uint8)
    cells = np.stack([blocks(255)[2], blocks(255, 255)[2]])
    for name, stack in (("train-volume", pages), ("train-labels", cells), ("test-volume", pages[::-1] // 2)):
        first, *others = map(Image.fromarray, stack)
        first.save(folder / f"{name}.tif", save_all=True, append_images=others)


def pictures(folder: Path, write: Write) -> None:
    for room in ("images", "masks"):
        (folder / room).mkdir(parents=True)
    for seed in (1, 2):
        Image.fromarray((picture(seed, (14, 16)) % 256).astype(np.uint8)).save(folder / f"images/{seed}.png")
        Image.fromarray(blocks(1)[2]).save(folder / f"masks/{seed}.png")


OLD, NEW = ("_t1", "_t1ce", "_t2", "_flair", "_seg"), ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")
GLIOMAS = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000")
MR = (63, 126, 189, 252)
LAYOUTS: dict[str, Callable[[Path, Write], None]] = {
    "kits19": lambda folder, write: kits(folder, "data", (1, 2), write),
    "kits23": lambda folder, write: kits(folder, "dataset", (1, 2, 3), write),
    "lits17": lits,
    "chaos_ct": lambda folder, write: chaos(folder, "CT/{}", (".",), (255,), write),
    "chaos_t1": lambda folder, write: chaos(folder, "MR/{}/T1DUAL", ("InPhase", "OutPhase"), MR, write),
    "chaos_t2": lambda folder, write: chaos(folder, "MR/{}/T2SPIR", (".",), MR, write),
    "acdc": acdc,
    "decathlon": lambda folder, write: described(
        folder, "", {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}, write
    ),
    "brats19": lambda f, write: brats(f, ("BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAG_1"), OLD, (1, 2, 4), write),
    "brats20": lambda f, write: brats(f, ("BraTS20_Training_001", "BraTS20_Training_002"), OLD, (1, 2, 4), write),
    "brats21": lambda f, write: brats(f, ("BraTS2021_00000", "BraTS2021_00002"), OLD, (1, 2, 4), write),
    "brats23": lambda f, write: brats(f, GLIOMAS, NEW, (1, 2, 3), write),
    "brats24": lambda f, write: brats(f, GLIOMAS, NEW, (1, 2, 3, 4), write),
    "nnunet_v1": lambda folder, write: described(
        folder, "_0000", {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}, write
    ),
    "nnunet_v2": lambda folder, write: described(
        folder,
        "_0000",
        {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1}, "file_ending": ".nii.gz"},
        write,
    ),
    "dicom": dicom,
    "luna16": luna,
    "lidc": lidc,
    "dsb2018": bowl,
    "isbi2012": membranes,
    "folder": pictures,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_the_command_converts_passes_the_check_of_a_data_set(name, tmp_path, write_series, capsys):
    LAYOUTS[name](tmp_path / "src", write_series)
    folder = tmp_path / "Dataset001_Mini"
    assert convert.main(["--from", name, str(tmp_path / "src"), str(folder), "--workers", "1"]) == 0
    assert "0 errors" in capsys.readouterr().out
    described_cases = read_json(folder / "dataset.json")["numTraining"]
    assert described_cases == (4 if name == "acdc" else 2)
    checked = [str(folder), "--check-only", "--root", str(tmp_path / "root"), "--workers", "1"]
    assert plan_and_preprocess.main(checked) == 0, capsys.readouterr().err
    problems = read_json(tmp_path / "root/preprocessed/Dataset001_Mini/check.json")["problems"]
    assert [problem for problem in problems if problem["severity"] == "error"] == []


def test_every_layout_is_tried():
    assert {name for name, load in CHALLENGES.items() if load().list_cases is not None} == {*LAYOUTS, "chaos"}
