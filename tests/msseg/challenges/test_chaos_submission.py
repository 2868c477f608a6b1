import io
import zipfile

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from msseg.challenges.challenge import Challenge, SubmissionOptions
from msseg.challenges.chaos_submission import check, recognise, write
from msseg.challenges.submission import check_submission, submit
from msseg.data.geometry import Geometry
from msseg.data.image import write_label
from msseg.errors import DatasetError

CHAOS = Challenge("chaos", "", "", write=write, check=check)
SHAPE = (3, 4, 5)
GRID = Geometry(SHAPE, (6.0, 1.5, 1.5), (-10.0, -20.0, 30.0))


def write_series(folder, names):
    """One DICOM file a slice of GRID, the slice at the foot under the first name."""
    folder.mkdir(parents=True)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    for z, name in enumerate(names):
        image = SimpleITK.GetImageFromArray(np.zeros((1, *SHAPE[1:]), np.int16))
        image.SetSpacing((1.5, 1.5, 6.0))
        place = (-10.0, -20.0, 30.0 + 6.0 * z)
        image.SetOrigin(place)
        image.SetMetaData("0020|0032", "\\".join(map(str, place)))
        image.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        image.SetMetaData("0008|0060", "MR")
        writer.SetFileName(str(folder / name))
        writer.Execute(image)


@pytest.fixture
def images(tmp_path):
    """Test_Sets with a CT whose names go up from the foot, and an MR whose names go down."""
    up = [f"i000{number},0000b.dcm" for number in range(3)]
    down = [f"IMG-0004-0000{number}.dcm" for number in (3, 2, 1)]
    write_series(tmp_path / "Test_Sets/CT/2/DICOM_anon", up)
    write_series(tmp_path / "Test_Sets/MR/7/T1DUAL/DICOM_anon/InPhase", down)
    write_series(tmp_path / "Test_Sets/MR/7/T1DUAL/DICOM_anon/OutPhase", down)
    write_series(tmp_path / "Test_Sets/MR/7/T2SPIR/DICOM_anon", down)
    return tmp_path / "Test_Sets"


def label(values):
    """A label map whose slice z is filled with values[z]."""
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None], SHAPE).copy()


def predict(tmp_path, **labels):
    for name, values in labels.items():
        write_label(tmp_path / f"pred/{name}.nii.gz", label(values), GRID)
    return tmp_path / "pred"


def slices(path):
    """The grey value of the first pixel of every slice by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: int(np.asarray(Image.open(io.BytesIO(archive.read(name))))[0, 0]) for name in archive.namelist()}


def test_organs_in_mr_are_the_fifth_task_in_the_order_of_the_files(tmp_path, images):
    pred = predict(tmp_path, T1DUAL_7=[0, 63, 252], T2SPIR_7=[1, 2, 3])
    report = submit(CHAOS, pred, tmp_path / "s.zip", SubmissionOptions(images))
    assert report.notes == ("Task5: 6 slices of 2 series.",)
    values = {"T1DUAL": [252, 63, 0], "T2SPIR": [189, 126, 63]}
    assert slices(tmp_path / "s.zip") == {
        f"Task5/MR/7/{name}/Results/img00{z}.png": grey[z] for name, grey in values.items() for z in range(3)
    }
    assert check_submission(CHAOS, tmp_path / "s.zip", images) == [] and recognise(tmp_path / "s.zip")


@pytest.mark.parametrize(
    ("labels", "task", "grey"),
    [
        ({"CT_2": [0, 1, 255]}, "Task2", {0, 255}),
        ({"T1DUAL_7": [0, 1, 63], "T2SPIR_7": [0, 0, 0]}, "Task3", {0, 63}),
        ({"CT_2": [0, 0, 1], "T1DUAL_7": [0, 1, 1], "T2SPIR_7": [0, 0, 1]}, "Task1", {0, 63, 255}),
        ({"CT_2": [0, 0, 1], "T1DUAL_7": [0, 4, 1], "T2SPIR_7": [0, 0, 1]}, "Task4", {0, 63, 252, 255}),
    ],
)
def test_the_task_follows_from_the_predictions(tmp_path, images, labels, task, grey):
    submit(CHAOS, predict(tmp_path, **labels), tmp_path / "s.zip", SubmissionOptions(images))
    found = slices(tmp_path / "s.zip")
    assert {name.split("/")[0] for name in found} == {task} and set(found.values()) == grey
    assert check_submission(CHAOS, tmp_path / "s.zip") == []


def test_the_ct_is_in_the_order_of_its_files(tmp_path, images):
    submit(CHAOS, predict(tmp_path, CT_2=[0, 0, 1]), tmp_path / "s.zip", SubmissionOptions(images))
    assert list(slices(tmp_path / "s.zip").values()) == [0, 0, 255]


def test_what_cannot_be_submitted_is_refused(tmp_path, images):
    pred = predict(tmp_path, T2SPIR_7=[0, 63, 63])
    with pytest.raises(DatasetError, match="Name it with -r"):
        submit(CHAOS, pred, tmp_path / "s.zip")
    with pytest.raises(DatasetError, match="no prediction for MR/7/T1DUAL"):
        submit(CHAOS, pred, tmp_path / "s.zip", SubmissionOptions(images))
    with pytest.raises(DatasetError, match="expected the unpacked Test_Sets/"):
        submit(CHAOS, pred, tmp_path / "s.zip", SubmissionOptions(pred))
    predict(tmp_path, CT_2=[0, 9, 0])
    with pytest.raises(DatasetError, match="label values 9; expected 0, 255"):
        (pred / "T2SPIR_7.nii.gz").unlink()
        submit(CHAOS, pred, tmp_path / "s.zip", SubmissionOptions(images))
    assert not (tmp_path / "s.zip").exists()


@pytest.mark.parametrize(
    ("grid", "found"),
    [
        (Geometry(SHAPE, (6.0, 1.5, 1.5), (-10.0, -20.0, 33.0)), "slices up to 3 mm off"),
        (Geometry(SHAPE, (6.0, 1.5, 1.5), (-4.0, -20.0, 30.0), ((0, 0, 1), (0, 1, 0), (-1, 0, 0))), "slices up to"),
        (Geometry((2, 4, 5), (6.0, 1.5, 1.5), (-10.0, -20.0, 30.0)), "5 x 4 x 2 voxels"),
    ],
)
def test_a_prediction_on_another_grid_is_refused(tmp_path, images, grid, found):
    write_label(tmp_path / "pred/CT_2.nii.gz", np.zeros(grid.shape, np.uint8), grid)
    with pytest.raises(DatasetError, match=found):
        submit(CHAOS, tmp_path / "pred", tmp_path / "s.zip", SubmissionOptions(images))


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


FINE = png(np.zeros(SHAPE[1:], np.uint8))


def checked(tmp_path, changes, images):
    """The faults of a whole submission of Task2 in which members were replaced (None: left out)."""
    members = {f"Task2/CT/2/Results/img00{z}.png": FINE for z in range(3)}
    members.update(changes)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return [(fault.member, fault.found) for fault in check_submission(CHAOS, tmp_path / "s.zip", images)]


FIRST, LAST = "Task2/CT/2/Results/img000.png", "Task2/CT/2/Results/img002.png"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({FIRST: png(np.full(SHAPE[1:], 63, np.uint8))}, [(FIRST, "grey values 63")]),
        ({FIRST: png(np.zeros((*SHAPE[1:], 3), np.uint8))}, [(FIRST, "a picture of kind RGB")]),
        ({FIRST: png(np.zeros(SHAPE[1:], np.uint16))}, [(FIRST, "a picture of kind I;16")]),
        ({FIRST: png(np.zeros((2, 2), np.uint8))}, [(FIRST, "2 x 2 pixels")]),
        ({LAST: None}, [("", "2 slices in Task2/CT/2/Results, up to img001.png")]),
        ({"readme.txt": b""}, [("readme.txt", "a name of no slice")]),
        ({"../img000.png": b""}, [("../img000.png", "a name that leads out of its folder")]),
        (
            {f"Task2/CT/3/Results/img00{z}.png": FINE for z in range(3)},
            [("", "Task2/CT/3, an unknown series")],
        ),
    ],
)
def test_every_fault_is_found(tmp_path, images, changes, expected):
    assert checked(tmp_path, changes, images) == expected


@pytest.mark.parametrize("content", [b"", b"no picture", FINE[:48]])
def test_a_picture_that_cannot_be_read_is_a_fault(tmp_path, images, content):
    ((member, found),) = checked(tmp_path, {FIRST: content}, images)
    assert member == FIRST and found.startswith("no readable PNG")


def test_numbering_and_series_are_checked_without_images(tmp_path):
    assert checked(tmp_path, {FIRST: None}, None) == [("", "2 slices in Task2/CT/2/Results, up to img002.png")]
    found = checked(tmp_path, {"Task5/MR/1/T1DUAL/Results/img000.png": FINE}, None)
    assert found == [("", "no Task5/MR/1/T2SPIR")]
    assert ("", "no Task1/MR/1/T1DUAL") in checked(tmp_path, {"Task1/CT/2/Results/img000.png": FINE}, None)
    nothing = dict.fromkeys([f"Task2/CT/2/Results/img00{z}.png" for z in range(3)])
    assert checked(tmp_path, nothing, None) == [("", "no slice")]


def test_a_zip_of_label_maps_is_not_recognised(tmp_path):
    nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    assert not recognise(tmp_path / "a.nii.gz")
