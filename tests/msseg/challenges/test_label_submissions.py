"""The challenges whose submission is a zip of label maps, on miniatures in exactly their public layouts."""

import zipfile

import nibabel
import numpy as np
import pytest

from msseg.challenges.challenge import SubmissionError, SubmissionOptions
from msseg.challenges.guess import guess_challenge
from msseg.challenges.submission import check_submission, submit
from msseg.challenges.table import find_challenge
from msseg.errors import DatasetError

SHAPE_XYZ = (4, 3, 2)
AFFINE = np.array([[0, 0, -0.8, 10], [0, -0.8, 0, 20], [-3.0, 0, 0, 30], [0, 0, 0, 1]])  # KiTS19 stores (z, y, x)


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, affine).to_filename(path)
    return path


def label(values, seed=0):
    return np.random.default_rng(seed).choice(values, SHAPE_XYZ).astype(np.uint8)


def image(path):
    return save(path, np.zeros(SHAPE_XYZ, np.int16))


# Challenge, images of two cases as the challenge gives them, predictions, members, values before and after.
ROWS = [
    (
        "kits19",
        ["case_00210/imaging.nii.gz", "case_00211/imaging.nii.gz", "case_00209/imaging.nii.gz"],
        ["case_00210", "case_00211"],
        ["prediction_00210.nii.gz", "prediction_00211.nii.gz"],
        ((0, 1, 2), (0, 1, 2)),
    ),
    (
        "lits17",
        ["test-volume-2.nii", "test-volume-10.nii", "volume-2.nii"],
        ["test-volume-2", "test-volume-10"],
        ["test-segmentation-2.nii", "test-segmentation-10.nii"],
        ((0, 1, 2), (0, 1, 2)),
    ),
    (
        "acdc",
        [f"testing/patient101/patient101{end}.nii.gz" for end in ("_4d", "_frame01", "_frame14")],
        ["patient101_ED", "patient101_ES"],
        ["patient101_ED.nii.gz", "patient101_ES.nii.gz"],
        ((0, 1, 2, 3), (0, 1, 2, 3)),
    ),
    (
        "acdc",
        [f"testing/patient101/patient101{end}.nii.gz" for end in ("_4d", "_frame01", "_frame14")],
        ["patient101_frame01", "patient101_frame14"],
        ["patient101_ED.nii.gz", "patient101_ES.nii.gz"],
        ((0, 1, 2, 3), (0, 1, 2, 3)),
    ),
    (
        "brats19",
        [f"{s}/{s}_{c}.nii.gz" for s in ("BraTS19_CBICA_AAM_1", "BraTS19_UAB_3456_1") for c in ("t1", "t1ce", "flair")],
        ["BraTS19_CBICA_AAM_1", "BraTS19_UAB_3456_1"],
        ["BraTS19_CBICA_AAM_1.nii.gz", "BraTS19_UAB_3456_1.nii.gz"],
        ((0, 1, 2, 4), (0, 1, 2, 4)),
    ),
    (
        "brats20",
        [f"{s}/{s}_t2.nii.gz" for s in ("BraTS20_Validation_001", "BraTS20_Validation_002")],
        ["BraTS20_Validation_001", "BraTS20_Validation_002"],
        ["BraTS20_Validation_001.nii.gz", "BraTS20_Validation_002.nii.gz"],
        ((0, 1, 2, 3), (0, 1, 2, 4)),
    ),
    (
        "brats21",
        [f"{s}/{s}_t2.nii.gz" for s in ("BraTS2021_00001", "BraTS2021_00013")],
        ["BraTS2021_00001", "BraTS2021_00013"],
        ["BraTS2021_00001.nii.gz", "BraTS2021_00013.nii.gz"],
        ((0, 1, 2, 3), (0, 1, 2, 4)),
    ),
    (
        "brats23",
        [f"{s}/{s}-t2f.nii.gz" for s in ("BraTS-GLI-00001-000", "BraTS-MEN-00013-001")],
        ["BraTS-GLI-00001-000", "BraTS-MEN-00013-001"],
        ["BraTS-GLI-00001-000.nii.gz", "BraTS-MEN-00013-001.nii.gz"],
        ((0, 1, 2, 4), (0, 1, 2, 3)),
    ),
    (
        "brats24",
        [f"{s}/{s}-t2f.nii.gz" for s in ("BraTS-GLI-02063-100", "BraTS-GLI-02063-101")],
        ["BraTS-GLI-02063-100", "BraTS-GLI-02063-101"],
        ["BraTS-GLI-02063-100.nii.gz", "BraTS-GLI-02063-101.nii.gz"],
        ((0, 1, 2, 3, 4), (0, 1, 2, 3, 4)),
    ),
    (
        "decathlon",
        [f"Task04_Hippocampus/{f}.nii.gz" for f in ("imagesTs/hippocampus_002", "imagesTs/hippocampus_005")]
        + ["Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz", "Task09_Spleen/imagesTs/spleen_7.nii.gz"],
        ["hippocampus_002", "hippocampus_005"],
        ["Task04_Hippocampus/hippocampus_002.nii.gz", "Task04_Hippocampus/hippocampus_005.nii.gz"],
        ((0, 1), (0, 1)),
    ),
]
IDS = [f"{row[0]}-{row[2][0]}" for row in ROWS]


@pytest.fixture
def make_images(tmp_path):
    """Writes images; ACDC's information beside them."""

    def make(names):
        for name in names:
            image(tmp_path / "images" / name)
        if any("patient101" in name for name in names):
            information = "ED: 1\nES: 14\nGroup: DCM\nHeight: 184.0\n"
            (tmp_path / "images/testing/patient101/Info.cfg").write_text(information)
        return tmp_path / "images"

    return make


@pytest.mark.parametrize(("name", "images", "predictions", "members", "values"), ROWS, ids=IDS)
def test_a_submission_has_the_names_values_type_and_grids_of_its_challenge(
    tmp_path, make_images, name, images, predictions, members, values
):
    folder, before, after = make_images(images), *values
    for number, case in enumerate(predictions):
        save(tmp_path / f"pred/{case}.nii.gz", label(before, number).astype(np.int16))
    challenge = find_challenge(name)
    submit(challenge, tmp_path / "pred", tmp_path / "s.zip", SubmissionOptions(folder))
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.namelist() == members
        archive.extractall(tmp_path / "out")
    for number, member in enumerate(members):
        back = nibabel.load(tmp_path / "out" / member)
        expected = np.vectorize(dict(zip(before, after, strict=True)).get)(label(before, number))
        assert back.get_data_dtype() == np.uint8 and np.array_equal(np.asarray(back.dataobj), expected)
        assert np.allclose(back.affine, AFFINE)
    assert check_submission(challenge, tmp_path / "s.zip", folder) == []


@pytest.mark.parametrize(("name", "images", "predictions", "members", "values"), ROWS, ids=IDS)
def test_a_missing_case_and_a_foreign_value_are_faults(
    tmp_path, make_images, name, images, predictions, members, values
):
    challenge, folder = find_challenge(name), make_images(images)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        ending = ".nii" if members[0].endswith(".nii") else ".nii.gz"
        archive.writestr(members[0], save(tmp_path / f"m{ending}", label((0, 9))).read_bytes())
        archive.writestr("readme.txt", "")
    found = [(fault.member, fault.found) for fault in check_submission(challenge, tmp_path / "s.zip", folder)]
    assert sorted(found) == sorted(
        [(members[0], "label values 9"), ("readme.txt", "a name of no case"), ("", f"no {members[1]}")]
    )


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ("prediction_00210.nii.gz", "kits19"),
        ("test-segmentation-0.nii", "lits17"),
        ("patient101_ED.nii.gz", "acdc"),
        ("BraTS19_CBICA_AAM_1.nii.gz", "brats19"),
        ("BraTS20_Validation_001.nii.gz", "brats20"),
        ("BraTS2021_00001.nii.gz", "brats21"),
        ("Task04_Hippocampus/hippocampus_002.nii.gz", "decathlon"),
        ("Task5/MR/1/T2SPIR/Results/img000.png", "chaos"),
    ],
)
def test_a_zip_is_known_by_a_name_in_it(tmp_path, member, name):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("__MACOSX/._x", b"")
        archive.writestr(member, b"")
    assert guess_challenge(tmp_path / "s.zip").name == name


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"ImageId,EncodedPixels\n", "dsb2018"),
        (b"II*\0", "isbi2012"),
        (b"seriesuid,coordX,coordY,coordZ,probability\r\n1.3.6.1.4.1.1.2,1,2,3,0.5\r\n", "luna16"),
        (b"seriesuid,coordX,coordY,coordZ,probability\nLIDC-IDRI-0001,1,2,3,0.5\n", "lidc"),
    ],
)
def test_other_files_are_known_by_how_they_begin(tmp_path, start, name):
    (tmp_path / "s").write_bytes(start)
    assert guess_challenge(tmp_path / "s").name == name


def test_a_file_of_several_challenges_or_of_none_is_asked_about(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("BraTS-GLI-00001-000.nii.gz", b"")
    with pytest.raises(DatasetError, match=r"several challenges; .* --challenge: brats23, brats24"):
        guess_challenge(tmp_path / "s.zip")
    (tmp_path / "s.csv").write_bytes(b"\xff\0")
    with pytest.raises(DatasetError, match=r"of no challenge; .* --challenge: dsb2018, isbi2012, kits19"):
        guess_challenge(tmp_path / "s.csv")
    with pytest.raises(DatasetError, match="no such file"):
        guess_challenge(tmp_path / "nowhere")


def test_all_ninety_cases_of_kits19_are_expected(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("prediction_00210.nii.gz", save(tmp_path / "m.nii.gz", label((0, 1))).read_bytes())
        archive.writestr("prediction_00300.nii.gz", b"")
    faults = check_submission(find_challenge("kits19"), tmp_path / "s.zip")
    assert len(faults) == 1 + 89 and faults[0].found == "an unknown case"


def test_lits_wants_bytes(tmp_path, make_images):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        file = save(tmp_path / "m.nii", label((0, 1)).astype(np.int16))
        archive.writestr("test-segmentation-2.nii", file.read_bytes())
    (fault,) = check_submission(find_challenge("lits17"), tmp_path / "s.zip", make_images(["test-volume-2.nii"]))
    assert fault.found == "values of type int16"


def test_brain_scans_have_one_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("BraTS2021_00001.nii.gz", save(tmp_path / "m.nii.gz", label((0, 4))).read_bytes())
    (fault,) = check_submission(find_challenge("brats21"), tmp_path / "s.zip")
    assert (fault.found, fault.expected) == ("4 x 3 x 2 voxels", "240 x 240 x 155 as its image has")


@pytest.mark.parametrize(
    ("name", "member", "shape_xyz", "axes", "origin_mm"),
    [
        ("brats23", "BraTS-GLI-00001-000.nii.gz", (240, 240, 155), (-1, -1, 1), (0, 239, 0)),
        ("brats24", "BraTS-GLI-02063-100.nii.gz", (182, 218, 182), (-1, 1, 1), (90, -126, -72)),
    ],
)
def test_brain_scans_since_2023_have_one_grid(tmp_path, name, member, shape_xyz, axes, origin_mm):
    affine = np.diag([*map(float, axes), 1.0])
    affine[:3, 3] = origin_mm
    for moved_mm, expected in ((0.0, []), (1.0, ["a grid up to 1 mm away from its image's"])):
        affine[2, 3] += moved_mm
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            archive.writestr(member, save(tmp_path / "m.nii.gz", np.zeros(shape_xyz, np.uint8), affine).read_bytes())
        faults = check_submission(find_challenge(name), tmp_path / "s.zip")
        assert [fault.found for fault in faults] == expected
    affine[2, 3] = origin_mm[2]
    save(tmp_path / f"pred/{member}", np.zeros(shape_xyz, np.uint8), affine)
    report = submit(find_challenge(name), tmp_path / "pred", tmp_path / "s.zip")
    assert "not checked" not in report.summary()


def test_frames_need_their_information(tmp_path, make_images):
    save(tmp_path / "pred/patient101_frame01.nii.gz", label((0, 1)))
    with pytest.raises(DatasetError, match="a name of no case"):
        submit(find_challenge("acdc"), tmp_path / "pred", tmp_path / "s.zip")
    folder = make_images(["testing/patient101/patient101_frame01.nii.gz"])
    (folder / "testing/patient101/Info.cfg").write_text("ED: 1\n")
    with pytest.raises(DatasetError, match="no line ES"):
        submit(find_challenge("acdc"), tmp_path / "pred", tmp_path / "s.zip", SubmissionOptions(folder))


def test_the_values_of_a_decathlon_task_are_its_own_and_its_cases_are_counted(tmp_path):
    save(tmp_path / "pred/Task09_Spleen/spleen_1.nii.gz", label((0, 1)))
    with pytest.raises(SubmissionError, match="1 label maps in Task09_Spleen, of 20"):
        submit(find_challenge("decathlon"), tmp_path / "pred", tmp_path / "s.zip")
    save(tmp_path / "pred/Task09_Spleen/spleen_1.nii.gz", label((0, 2)))
    with pytest.raises(DatasetError, match="label values 2; expected 0, 1"):
        submit(find_challenge("decathlon"), tmp_path / "pred", tmp_path / "s.zip")


def test_a_decathlon_task_may_be_left_out_but_none_of_its_cases(tmp_path, make_images):
    tasks = ["Task04_Hippocampus/imagesTs/hippocampus_002", "Task04_Hippocampus/imagesTs/hippocampus_005"]
    folder = make_images([f"{name}.nii.gz" for name in [*tasks, "Task09_Spleen/imagesTs/spleen_7"]])
    save(tmp_path / "pred/Task04_Hippocampus/hippocampus_002.nii.gz", label((0, 1)))
    challenge, options = find_challenge("decathlon"), SubmissionOptions(folder)
    with pytest.raises(DatasetError, match="no prediction for Task04_Hippocampus/hippocampus_005;"):
        submit(challenge, tmp_path / "pred", tmp_path / "s.zip", options)
    save(tmp_path / "pred/Task04_Hippocampus/hippocampus_005.nii.gz", label((0, 2)))
    submit(challenge, tmp_path / "pred", tmp_path / "s.zip", options)
    (tmp_path / "pred/Task04_Hippocampus/hippocampus_005.nii.gz").unlink()
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.write(
            tmp_path / "pred/Task04_Hippocampus/hippocampus_002.nii.gz", "Task04_Hippocampus/hippocampus_002.nii.gz"
        )
    faults = check_submission(challenge, tmp_path / "one.zip", folder)
    assert [fault.found for fault in faults] == ["no Task04_Hippocampus/hippocampus_005.nii.gz"]


@pytest.mark.parametrize("member", ["Task04_Hippocampus/spleen_1.nii.gz", "hippocampus_002.nii.gz", "Task04/la_1.nii"])
def test_a_decathlon_case_lies_in_the_folder_of_its_task(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr(member, b"")
    faults = check_submission(find_challenge("decathlon"), tmp_path / "s.zip")
    assert [fault.found for fault in faults] == ["a name of no case", "no label map"]
