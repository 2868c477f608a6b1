"""LUNA16 and LIDC-IDRI as miniatures in the layouts that they are published in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msseg.challenges.challenge import ConversionOptions
from msseg.challenges.conversion import convert
from msseg.challenges.lidc import LIDC
from msseg.challenges.lidc_readings import Outline, read_readings
from msseg.challenges.luna16 import LUNA16, read_annotations
from msseg.data.balls import paint_ball
from msseg.data.dataset import read_dataset
from msseg.data.geometry import Geometry
from msseg.data.image import read_image, read_label
from msseg.errors import DatasetError
from msseg.files import read_json
from msseg.pipeline.splits import splits_of

GRID = Geometry((9, 11, 13), (2.0, 1.0, 1.0), (-100.0, -50.0, 10.0))
HEADING = "seriesuid,coordX,coordY,coordZ,diameter_mm"


def test_a_ball_holds_the_voxels_whose_centres_are_near_enough():
    label = np.zeros(GRID.shape, np.uint8)
    assert paint_ball(label, GRID, (-94.0, -45.0, 18.0), 2.0)
    z, y, x = np.nonzero(label)
    inside = {(4, 5, 6), (3, 5, 6), (5, 5, 6), (4, 3, 6), (4, 4, 6), (4, 6, 6), (4, 7, 6), (4, 5, 4), (4, 5, 5)}
    inside |= {(4, 5, 7), (4, 5, 8), (4, 4, 5), (4, 4, 7), (4, 6, 5), (4, 6, 7)}
    assert set(zip(z.tolist(), y.tolist(), x.tolist(), strict=True)) == inside


def test_a_ball_is_round_in_mm_on_an_oblique_grid():
    tilted = ((0.0, -0.6, 0.8), (0.0, 0.8, 0.6), (-1.0, 0.0, 0.0))
    grid = Geometry((20, 24, 30), (1.5, 1.0, 0.8), (12.0, -8.0, 3.0), tilted)
    centre = grid.positions_mm(np.array([[9.3, 11.6, 14.2]]))[0]
    label = np.zeros(grid.shape, np.uint8)
    assert paint_ball(label, grid, (centre[0], centre[1], centre[2]), 5.0, value=3)
    voxels = np.argwhere(np.ones(grid.shape, bool))
    near = np.linalg.norm(grid.positions_mm(voxels) - centre, axis=1) <= 5.0
    assert np.array_equal(label.reshape(-1), near * 3)


def test_the_smallest_ball_is_one_voxel_and_one_outside_none():
    label = np.zeros(GRID.shape, np.uint8)
    assert paint_ball(label, GRID, (-94.4, -45.4, 18.9), 0.1) and label.sum() == label[4, 5, 6] == 1
    assert not paint_ball(label, GRID, (-101.0, -45.0, 18.0), 3.0) and label.sum() == 1


def scan(path: Path, values: np.ndarray, grid: Geometry = GRID) -> None:
    import SimpleITK

    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(np.asarray(grid.direction)[::-1].T.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))


@pytest.fixture
def luna(tmp_path):
    """A scan with two nodules, one turned by half a turn with one, one without any."""
    values = np.random.default_rng(0).integers(-1000, 400, GRID.shape).astype(np.int16)
    root = tmp_path / "src"
    scan(root / "subset0/1.3.6.1.mhd", values)
    turned = Geometry(GRID.shape, GRID.spacing_mm, (100.0, 50.0, 10.0), ((0, 0, 1), (0, -1, 0), (-1, 0, 0)))
    scan(root / "subset1/1.3.6.2.mhd", values, turned)
    scan(root / "subset1/1.3.6.3.mhd", values)
    rows = ["1.3.6.1,-94.0,-45.0,18.0,4.0", "1.3.6.1,-90,-42,24,1", "1.3.6.2,94.0,45.0,18.0,4.0"]
    (root / "annotations.csv").write_text("\n".join([HEADING, *rows]))
    return root


def test_nodules_become_balls_where_the_table_says(luna, tmp_path):
    report = convert(LUNA16, luna, tmp_path / "set")
    assert report.is_complete and report.converted == 3
    label, grid = read_label(tmp_path / "set/labelsTr/1.3.6.1.nii.gz")
    assert label.sum() == 15 + 1 and label[7, 8, 10] == 1 and grid.spacing_mm == pytest.approx(GRID.spacing_mm)
    turned, _ = read_label(tmp_path / "set/labelsTr/1.3.6.2.nii.gz")
    assert turned.sum() == 15 and turned[4, 5, 6] == 1
    assert not read_label(tmp_path / "set/labelsTr/1.3.6.3.nii.gz")[0].any()
    assert [case.name for case in read_dataset(tmp_path / "set").training] == ["1.3.6.1", "1.3.6.2", "1.3.6.3"]


def test_the_subsets_are_the_folds(luna, tmp_path):
    convert(LUNA16, luna, tmp_path / "set")
    splits, _ = splits_of(tmp_path / "set", ["1.3.6.1", "1.3.6.2", "1.3.6.3"])
    assert [split.validation for split in splits] == [("1.3.6.1",), ("1.3.6.2", "1.3.6.3")]
    scan(luna / "more/1.3.6.4.mhd", np.zeros(GRID.shape, np.int16))
    convert(LUNA16, luna, tmp_path / "other")
    assert "folds" not in read_json(tmp_path / "other/dataset.json")


def test_scans_whose_nodules_or_voxels_changed_are_converted_again(luna, tmp_path):
    convert(LUNA16, luna, tmp_path / "set")
    with (luna / "annotations.csv").open("a") as stream:
        stream.write("\n1.3.6.3,-94.0,-45.0,18.0,4.0\n")
    voxels = luna / "subset0/1.3.6.1.raw"
    voxels.write_bytes(voxels.read_bytes()[::-1])
    report = convert(LUNA16, luna, tmp_path / "set")
    assert (report.converted, report.kept) == (2, 1)


def test_nodules_of_other_subsets_are_noted_and_those_outside_of_their_scan_refused(luna, tmp_path):
    with (luna / "annotations.csv").open("a") as stream:
        stream.write("\n1.3.6.9,0,0,0,5\n1.3.6.3,500,0,0,5\n")
    report = convert(LUNA16, luna, tmp_path / "set")
    assert {(problem.case, problem.found, problem.severity) for problem in report.problems} == {
        ("", "nodules of 1 scans that are not there, the first 1.3.6.9", "note"),
        ("1.3.6.3", "a nodule at 500 0 0 mm, outside of the scan", "error"),
    }


def test_a_table_that_is_none_is_named_by_its_line(tmp_path):
    path = tmp_path / "annotations.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="expected seriesuid"):
        read_annotations(path)
    path.write_text(f"{HEADING}\n1.2,3,4,5,6\n1.2,3,far,5,6\n")
    with pytest.raises(DatasetError, match=r"line 3: 1\.2,3,far,5,6; expected an id and four numbers"):
        read_annotations(path)


def test_an_outline_is_the_first_pixels_outside():
    square = np.array([(1, 1), (1, 2), (1, 3), (1, 4), (2, 4), (3, 4), (4, 4), (4, 3), (4, 2), (4, 1), (3, 1), (2, 1)])
    expected = np.zeros((6, 7), bool)
    expected[2:4, 2:4] = True
    assert np.array_equal(Outline(0.0, square, True).mask((6, 7)), expected)


def square(low: int, high: int) -> list[tuple[int, int]]:
    """The pixels around those from `low` to `high` in both directions, as (x, y)."""
    side = range(low - 1, high + 1)
    return (
        [(x, low - 1) for x in side]
        + [(high + 1, y) for y in side]
        + [(x, high + 1) for x in range(high + 1, low - 1, -1)]
        + [(low - 1, y) for y in range(high + 1, low - 1, -1)]
    )


def roi(z: float, points: list[tuple[int, int]], inclusion: str = "TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    place = f"<imageZposition>{z}</imageZposition><imageSOP_UID>1.2</imageSOP_UID>"
    return f"<roi>{place}<inclusion>{inclusion}</inclusion>{edges}</roi>"


def readings(*sessions: str) -> str:
    body = "".join(
        f"<readingSession><unblindedReadNodule><noduleID>1</noduleID>{rois}</unblindedReadNodule></readingSession>"
        for rois in sessions
    )
    return f'<?xml version="1.0"?><LidcReadMessage uid="1" xmlns="http://www.nih.gov">{body}</LidcReadMessage>'


@pytest.fixture
def lidc(tmp_path, write_series):
    """A patient with a CT that four readers saw and a radiograph, and one that was scanned twice."""
    image = np.arange(3 * 12 * 12, dtype=np.int16).reshape(3, 12, 12)
    root = tmp_path / "src/LIDC-IDRI"
    for patient, series in (("0001", "a"), ("0002", "a"), ("0002", "b")):
        folder = root / f"LIDC-IDRI-{patient}/study{series}/3000566"
        write_series(folder, image)
        (folder / "069.xml").write_text(
            readings(
                roi(32.5, square(3, 7)),
                roi(32.5, square(3, 8)) + roi(32.5, square(5, 5), "FALSE") + roi(35.0, square(4, 5)),
                roi(30.0, [(6, 6)]),
                "",
            )
        )
    radiograph = root / "LIDC-IDRI-0001/study0/1"
    write_series(radiograph, image[:1])
    (radiograph / "070.xml").write_text('<IdriReadMessage xmlns="http://www.nih.gov"/>')
    return root


def test_a_voxel_is_nodule_where_two_readers_say_so(lidc, tmp_path):
    report = convert(LIDC, lidc.parent, tmp_path / "set")
    assert report.is_complete and report.converted == 3
    label, _ = read_label(tmp_path / "set/labelsTr/LIDC-IDRI-0001.nii.gz")
    expected = np.zeros((3, 12, 12), np.uint8)
    expected[1, 3:8, 3:8] = 1  # what the first reader outlined and the second did
    expected[1, 5, 5] = 0  # but for the second's hole
    assert np.array_equal(label, expected)
    names = [case.name for case in read_dataset(tmp_path / "set").training]
    assert names == ["LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0002_2"]
    assert read_json(tmp_path / "set/dataset.json")["group_by"] == r"^(LIDC-IDRI-\d{4})"


def test_slices_on_which_readers_agree_can_be_cases_of_their_own(lidc, tmp_path):
    report = convert(LIDC, lidc, tmp_path / "set", ConversionOptions(pages="images"))
    assert report.is_complete and report.converted == 3
    image, grid = read_image([tmp_path / "set/imagesTr/LIDC-IDRI-0001_00_0000.nii.gz"])
    assert np.array_equal(image[0, 0], np.arange(144, 288).reshape(12, 12))
    assert grid.shape == (1, 12, 12) and grid.origin_mm == pytest.approx((-10, -20, 32.5))
    assert read_label(tmp_path / "set/labelsTr/LIDC-IDRI-0001_00.nii.gz")[0].sum() == 24
    names = [case.name for case in read_dataset(tmp_path / "set").training]
    assert names == ["LIDC-IDRI-0001_00", "LIDC-IDRI-0002_00", "LIDC-IDRI-0002_2_00"]
    second = sorted(lidc.rglob("069.xml"))[1]
    second.write_text(second.read_text().replace("<xCoord>2</xCoord>", "<xCoord>3</xCoord>"))
    report = convert(LIDC, lidc, tmp_path / "set", ConversionOptions(pages="images"))
    assert (report.converted, report.kept) == (1, 2)


def test_points_are_nodules_below_3_mm_and_left_out(lidc):
    found = read_readings(lidc / "LIDC-IDRI-0001/studya/3000566/069.xml")
    assert [len(outlines) for outlines in found] == [1, 3, 0, 0]


def test_outlines_beside_the_slices_and_damaged_readings_are_named(lidc, tmp_path):
    first, second = sorted(lidc.rglob("069.xml"))[:2]
    first.write_text(readings(roi(99.0, square(3, 7))))
    second.write_text(second.read_text()[:-30])
    report = convert(LIDC, lidc, tmp_path / "set")
    found = {problem.case: problem.found for problem in report.problems}
    assert found["LIDC-IDRI-0001"] == "an outline at z 99 mm" and "damaged readings" in found["LIDC-IDRI-0002"]
    assert report.converted == 1


def test_a_patient_without_readings_is_named(lidc, tmp_path):
    (lidc / "LIDC-IDRI-0001/studya/3000566/069.xml").unlink()
    report = convert(LIDC, lidc, tmp_path / "set")
    assert [(problem.case, problem.found) for problem in report.problems] == [
        ("LIDC-IDRI-0001", "no series with readings")
    ]
