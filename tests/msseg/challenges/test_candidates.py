import nibabel
import numpy as np
import pytest
import SimpleITK

from msseg.challenges.candidates import HEADER, find_candidates
from msseg.challenges.challenge import Challenge, SubmissionError, SubmissionOptions
from msseg.challenges.lidc_submission import recognise as recognise_lidc
from msseg.challenges.luna16_submission import check, recognise, write
from msseg.challenges.submission import check_submission, submit
from msseg.data.geometry import Geometry
from msseg.data.image import read_geometry
from msseg.errors import DatasetError
from msseg.inference.probability_files import probabilities_path, write_probabilities
from planning.regions import Region

LUNA = Challenge("luna16", "", "", write=write, check=check)
SCAN, OTHER = "1.3.6.1.4.1.14519.5.2.1.6279.6001.1", "1.3.6.1.4.1.14519.5.2.1.6279.6001.2"
# Voxel (z, y, x) lies at x = -100 + 0.5 x, y = 20 - 0.5 y (turned round), z = -300 + 2 z.
GRID = Geometry(
    (4, 8, 10), (2.0, 0.5, 0.5), (-100.0, 20.0, -300.0), ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
)


@pytest.fixture
def nodules():
    """Two blocks of 0.9 and 0.5 with a brighter voxel of 0.6, and one voxel of 0.05."""
    probability = np.zeros(GRID.shape, np.float32)
    probability[1, 2:4, 3:5] = 0.5
    probability[1, 2, 3] = 0.6
    probability[3, 6, 8:10] = 0.9
    probability[0, 0, 0] = 0.05
    return probability


@pytest.fixture
def predictions(nodules, tmp_path):
    """Probabilities of a scan with two nodules, and of one without any."""
    for name, values in ((SCAN, nodules), (OTHER, np.zeros_like(nodules))):
        path = probabilities_path(name, tmp_path / "pred")
        write_probabilities(path, np.stack([1 - values, values]), GRID, {"background": 0, "nodule": 1})
    return tmp_path / "pred"


@pytest.fixture
def images(tmp_path):
    """The scans in the layout of LUNA16: an .mhd beside a .raw, in a subset."""
    for name in (SCAN, OTHER):
        image = SimpleITK.GetImageFromArray(np.zeros(GRID.shape, np.int16))
        image.SetSpacing((0.5, 0.5, 2.0))
        image.SetOrigin(GRID.origin_mm)
        image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
        (tmp_path / "luna/subset0").mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(image, str(tmp_path / f"luna/subset0/{name}.mhd"))
    return tmp_path / "luna"


def test_a_candidate_is_where_its_voxels_are_on_average_with_their_largest_probability(nodules):
    best, second = find_candidates(nodules, GRID, 0.1)
    assert np.allclose(best.position_mm, (-100 + 0.5 * 8.5, 20 - 0.5 * 6, -300 + 2 * 3)) and best.probability > 0.899
    assert np.allclose(second.position_mm, (-100 + 0.5 * 3.5, 20 - 0.5 * 2.5, -300 + 2 * 1))
    assert second.probability == pytest.approx(0.6)


def test_the_mean_is_taken_where_it_is_asked_for(nodules):
    assert find_candidates(nodules, GRID, 0.1, "mean")[1].probability == pytest.approx((3 * 0.5 + 0.6) / 4)


def test_the_threshold_says_what_a_candidate_is(nodules):
    assert [len(find_candidates(nodules, GRID, threshold)) for threshold in (0.01, 0.1, 0.7, 0.95)] == [3, 2, 1, 0]


def test_voxels_that_touch_at_a_corner_hang_together():
    probability = np.zeros(GRID.shape, np.float32)
    probability[0, 0, 0] = probability[1, 1, 1] = 1
    assert len(find_candidates(probability, GRID, 0.5)) == 1


def test_the_hundred_most_probable_are_kept():
    values = np.zeros((1, 1, 301), np.float32)
    values[0, 0, ::2] = np.linspace(0.2, 0.9, 151)
    grid = Geometry(values.shape, (1.0, 1.0, 1.0))
    found = find_candidates(values, grid, 0.1)
    assert len(found) == 100 and found[0].position_mm[0] == 300 and found[-1].position_mm[0] == 300 - 2 * 99


def test_a_place_agrees_with_simpleitk(images, nodules):
    path = images / f"subset0/{SCAN}.mhd"
    best = find_candidates(nodules, read_geometry(path), 0.1)[0]
    expected = SimpleITK.ReadImage(str(path)).TransformContinuousIndexToPhysicalPoint((8.5, 6.0, 3.0))
    assert np.allclose(best.position_mm, expected)


def test_a_list_is_written_checked_and_recognised(predictions, images, tmp_path):
    report = submit(LUNA, predictions, tmp_path / "s.csv", SubmissionOptions(images))
    assert report.notes == ("2 candidates above 0.1 in 2 scans, 1 of them without any.",)
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        HEADER,
        f"{SCAN},-95.7500,17.0000,-294.0000,0.900008",
        f"{SCAN},-98.2500,18.7500,-298.0000,0.600000",
    ]
    assert check_submission(LUNA, tmp_path / "s.csv", images) == []
    assert recognise(tmp_path / "s.csv") and not recognise_lidc(tmp_path / "s.csv")


def test_masks_become_candidates_of_probability_one_with_a_warning(tmp_path):
    (tmp_path / "pred").mkdir()
    label = np.zeros((5, 4, 3), np.uint8)
    label[1, 2, 0] = 1
    nibabel.Nifti1Image(label, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(tmp_path / f"pred/{SCAN}.nii.gz")
    report = submit(LUNA, tmp_path / "pred", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().splitlines()[1] == f"{SCAN},-1.0000,-2.0000,0.0000,1.000000"
    assert "Warning" in report.summary() and "not checked" in report.summary()


def test_of_several_classes_without_a_nodule_all_foreground_counts(nodules, tmp_path):
    parts = np.stack([1 - nodules, 0.5 * nodules, 0.5 * nodules])
    write_probabilities(probabilities_path(SCAN, tmp_path / "pred"), parts, GRID, {"background": 0, "a": 1, "b": 2})
    submit(LUNA, tmp_path / "pred", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().splitlines()[1].endswith(",0.899992")


def test_of_regions_the_nodules_are_found_by_name_and_all_of_them_count_where_none_has_it(nodules, tmp_path):
    labels = {"background": 0, "edge": 1, "core": 2}
    for named, expected in (("Nodule", 0.9), ("lump", 0.99)):
        inside = Region(named, (1, 2), 1), Region("core", (2,), 2)
        path = probabilities_path(SCAN, tmp_path / named)
        write_probabilities(path, np.stack([nodules, 1.1 * nodules]), GRID, labels, regions=inside)
        submit(LUNA, tmp_path / named, tmp_path / f"{named}.csv")
        found = (tmp_path / f"{named}.csv").read_text().splitlines()[1].split(",")[-1]
        assert float(found) == pytest.approx(expected, abs=1e-4)


def test_a_scan_without_a_prediction_and_a_file_of_no_scan_are_refused(predictions, images, tmp_path):
    probabilities_path(OTHER, predictions).rename(tmp_path / "away")
    with pytest.raises(DatasetError, match=f"no prediction for {OTHER}"):
        submit(LUNA, predictions, tmp_path / "s.csv", SubmissionOptions(images))
    (tmp_path / "away").rename(probabilities_path("patient", predictions))
    with pytest.raises(DatasetError, match="a name of no scan"):
        submit(LUNA, predictions, tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (f"{SCAN},1,2,3", "the row"),
        ("patient,1,2,3,0.5", "the row 'patient"),
        (f"{SCAN},1,2,x,0.5", "the row '1,2,x,0.5'"),
        (f"{SCAN},1,2,nan,0.5", "the row '1,2,nan,0.5'"),
        (f"{SCAN},-99,19,-299,1.5", "the probability 1.5"),
        (f"{SCAN},-99,19,-299,-0.1", "the probability -0.1"),
        (f"{SCAN}3,-99,19,-299,0.5", "the unknown scan"),
        (f"{SCAN},-101,19,-299,0.5", "the place -101, 19, -299 mm outside"),
        (f"{SCAN},-99,19,-292,0.5", "the place -99, 19, -292 mm outside"),
        (f"{SCAN},-98.0,18,-298,0.1", "the place of line 2 again"),
    ],
)
def test_a_faulty_row_is_named_by_its_line(images, tmp_path, row, found):
    (tmp_path / "s.csv").write_text(f"{HEADER}\n{SCAN},-98,18,-298,0.7\n{row}\n")
    (fault,) = check_submission(LUNA, tmp_path / "s.csv", images)
    assert fault.line == 3 and fault.found.startswith(found)


@pytest.mark.parametrize("text", ["", "seriesuid,coordX,coordY,coordZ,diameter_mm\n"])
def test_another_header_is_a_fault(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    (fault,) = check_submission(LUNA, tmp_path / "s.csv")
    assert fault.line == 1 and fault.expected == repr(HEADER)
    assert not recognise(tmp_path / "s.csv")


def test_a_file_that_is_no_text_is_a_fault(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in check_submission(LUNA, tmp_path / "s.csv")[0].found


def test_a_folder_without_scans_is_refused(tmp_path):
    (tmp_path / "s.csv").write_text(HEADER + "\n")
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="Name their folder with -r"):
        check_submission(LUNA, tmp_path / "s.csv", tmp_path / "images")


def test_what_is_written_is_checked_first(predictions, tmp_path, monkeypatch):
    monkeypatch.setattr("msseg.challenges.candidates._row", lambda candidate: "1,2,3,4")
    with pytest.raises(SubmissionError, match="the probability 4"):
        submit(LUNA, predictions, tmp_path / "s.csv")
