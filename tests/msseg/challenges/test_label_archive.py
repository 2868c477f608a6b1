"""The zip of label maps, held to one small challenge whose cases are a1 and a2."""

import dataclasses
import gzip
import zipfile
from functools import partial

import nibabel
import numpy as np
import pytest

from msseg.challenges.challenge import Challenge, SubmissionError, SubmissionOptions
from msseg.challenges.label_archive import LabelArchive, check_archive, recognise_archive, write_archive
from msseg.challenges.named_files import case_by
from msseg.challenges.submission import check_submission, submit
from msseg.errors import DatasetError

SHAPE_XYZ = (4, 3, 2)
RULE = LabelArchive(
    case_of_member=case_by(r"p_(?P<case>a\d)\.nii(?:\.gz)?"),
    case_of_prediction=case_by(r"(?:.*/)?(?P<case>a\d)"),
    case_of_image=case_by(r"(?:.*/)?(?P<case>a\d)"),
    member_of="p_{}.nii.gz".format,
    labels=lambda case: (0, 1, 4),
    example="p_a1.nii.gz",
    cases=("a1", "a2"),
    replaced={3: 4},
)


def challenge(rule=RULE):
    return Challenge("mini", "", "", write=partial(write_archive, rule), check=partial(check_archive, rule))


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 5.0, 1.0]) if affine is None else affine).to_filename(path)
    return path


def label(seed=0, values=(0, 1, 3)):
    return np.random.default_rng(seed).choice(values, SHAPE_XYZ).astype(np.uint8)


@pytest.fixture
def images(tmp_path):
    """Images of both cases in the layout of nnU-Net v2."""
    for case in ("a1", "a2"):
        save(tmp_path / f"imagesTs/{case}_0000.nii.gz", np.zeros(SHAPE_XYZ, np.int16))
    return tmp_path / "imagesTs"


def make_zip(tmp_path, members):
    """A zip of (name, array, file or bytes)."""
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, content) in enumerate(members):
            if isinstance(content, np.ndarray):
                content = save(tmp_path / f"members/{number}/{name.split('/')[-1]}", content).read_bytes()
            archive.writestr(name, content)
    return path


def found(path, images=None, rule=RULE):
    return [(fault.member, fault.found) for fault in check_submission(challenge(rule), path, images)]


BOTH = ("p_a1.nii.gz", "p_a2.nii.gz")
FINE = np.zeros(SHAPE_XYZ, np.uint8)


def test_label_maps_come_back_on_their_grids_in_the_challenges_values(tmp_path, images):
    for number, case in enumerate(("a1", "a2")):
        save(tmp_path / f"pred/{case}.nii.gz", label(number).astype(np.int16))
    report = submit(challenge(), tmp_path / "pred", tmp_path / "s.zip", SubmissionOptions(images))
    assert report.notes == ("2 label maps, p_a1.nii.gz to p_a2.nii.gz.",)
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.namelist() == list(BOTH)
        archive.extractall(tmp_path / "out")
    for number, name in enumerate(BOTH):
        back = nibabel.load(tmp_path / "out" / name)
        expected = label(number)
        expected[expected == 3] = 4
        assert back.get_data_dtype() == np.uint8 and np.array_equal(np.asarray(back.dataobj), expected)
        assert np.allclose(back.affine, np.diag([2, 2, 5, 1]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imagesTs", "out", "pred", "s.zip"]


def test_without_images_the_cases_of_the_challenge_are_expected_and_it_is_said(tmp_path):
    for case in ("a1", "a2"):
        save(tmp_path / f"pred/{case}.nii.gz", FINE)
    report = submit(challenge(), tmp_path / "pred", tmp_path / "s.zip")
    assert "Grids were not checked" in report.summary()
    assert found(tmp_path / "s.zip") == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a1": FINE}, "no prediction for a2"),
        ({"a1": FINE, "a2": FINE, "a3": FINE}, "a3, which"),
        ({"a1": FINE, "b": FINE}, "a name of no case"),
        ({"a1": FINE, "one/a1": FINE}, "the same case"),
        ({"a1": FINE + 2, "a2": FINE}, "label values 2; expected 0, 1, 4"),
        ({}, "no label maps"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, files, reason):
    (tmp_path / "pred").mkdir()
    for name, array in files.items():
        save(tmp_path / f"pred/{name}.nii.gz", array)
    with pytest.raises(DatasetError, match=reason):
        submit(challenge(), tmp_path / "pred", tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


def test_a_prediction_on_another_grid_is_named_by_its_member_and_what_lay_there_stays(tmp_path, images):
    save(tmp_path / "pred/a1.nii.gz", FINE)
    save(tmp_path / "pred/a2.nii.gz", FINE, np.diag([2.0, 2.0, 5.1, 1.0]))
    (tmp_path / "s.zip").write_text("before")
    with pytest.raises(SubmissionError, match=r"s\.zip, p_a2\.nii\.gz: a grid up to 0\.1 mm away"):
        submit(challenge(), tmp_path / "pred", tmp_path / "s.zip", SubmissionOptions(images))
    assert (tmp_path / "s.zip").read_text() == "before"


def test_a_folder_without_test_images_is_refused(tmp_path):
    save(tmp_path / "images/b.nii.gz", FINE)
    with pytest.raises(DatasetError, match="no test image such as a1"):
        check_submission(challenge(), make_zip(tmp_path, []), tmp_path / "images")


def test_names_and_cases_are_held_to_the_list(tmp_path):
    path = make_zip(tmp_path, [("p_a1.nii.gz", FINE), ("p_a3.nii.gz", FINE), ("x/p_a2.nii.gz", FINE)])
    assert found(path) == [
        ("p_a3.nii.gz", "an unknown case"),
        ("x/p_a2.nii.gz", "a name of no case"),
        ("", "no p_a2.nii.gz"),
    ]


def test_a_case_in_two_files_is_a_fault(tmp_path):
    path = make_zip(tmp_path, [("p_a1.nii", FINE), ("p_a1.nii.gz", FINE), ("p_a2.nii.gz", FINE)])
    assert found(path) == [("p_a1.nii.gz", "the case of p_a1.nii")]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (FINE + 3, "label values 3"),
        (np.arange(24, dtype=np.uint8).reshape(SHAPE_XYZ), "label values 2, 3, 5, 6, 7, 8, 9, 10 and more"),
        (FINE.astype(np.float32), "values of type float32"),
        (FINE[:, :2], "4 x 2 x 2 voxels"),
        (np.zeros((4, 3, 2, 2), np.uint8), "a 4-D file of 2 volumes"),
    ],
)
def test_values_types_and_shapes_are_checked(tmp_path, images, array, expected):
    path = make_zip(tmp_path, [("p_a1.nii.gz", array), ("p_a2.nii.gz", FINE)])
    assert found(path, images) == [("p_a1.nii.gz", expected)]


def test_values_that_are_no_whole_numbers_are_two_faults(tmp_path):
    array = FINE.astype(np.float64)
    array[0, 0, 0], array[1, 1, 1] = 0.5, np.nan
    path = make_zip(tmp_path, [("p_a1.nii.gz", array), ("p_a2.nii.gz", FINE)])
    assert [text for _, text in found(path)] == ["values of type float64", "label values 0.5, nan"]


def test_scaled_values_are_a_fault(tmp_path):
    image = nibabel.Nifti1Image(FINE, np.eye(4))
    image.header.set_slope_inter(2, 0)
    (tmp_path / "scaled").mkdir()
    image.to_filename(tmp_path / "scaled/s.nii.gz")
    path = make_zip(tmp_path, [("p_a1.nii.gz", (tmp_path / "scaled/s.nii.gz").read_bytes()), ("p_a2.nii.gz", FINE)])
    assert found(path) == [("p_a1.nii.gz", "values of type uint8, scaled by 2 and 0")]


def test_one_size_for_all_is_checked_without_images(tmp_path):
    path = make_zip(tmp_path, [(name, FINE) for name in BOTH])
    rule = dataclasses.replace(RULE, grid=(9, 3, 4))
    assert found(path, rule=rule) == [(name, "4 x 3 x 2 voxels") for name in BOTH]


def test_wanted_types_are_named(tmp_path):
    path = make_zip(tmp_path, [("p_a1.nii.gz", FINE), ("p_a2.nii.gz", FINE.astype(np.int16))])
    (fault,) = check_submission(challenge(dataclasses.replace(RULE, types=("uint8",))), path)
    assert fault.found == "values of type int16" and fault.expected == "uint8, not scaled"


def damaged(tmp_path, change):
    data = save(tmp_path / "x.nii.gz", FINE).read_bytes()
    return gzip.compress(change(gzip.decompress(data)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data[:-1], "fewer voxels than its header says"),
        (lambda data: data + b"0", "more data than its header says"),
        (lambda data: data[:100], "ends within the header"),
        (lambda data: b"no image" * 100, "no NIfTI header"),
    ],
)
def test_label_maps_that_are_cut_off_or_none_are_faults(tmp_path, change, expected):
    path = make_zip(tmp_path, [("p_a1.nii.gz", damaged(tmp_path, change)), ("p_a2.nii.gz", FINE)])
    assert found(path) == [("p_a1.nii.gz", expected)]


def test_a_header_that_announces_more_than_any_label_map_holds_is_not_followed(tmp_path):
    def larger(data):
        return data[:42] + np.array([30000, 30000, 30000], "<i2").tobytes() + data[48:]

    path = make_zip(tmp_path, [("p_a1.nii.gz", damaged(tmp_path, larger)), ("p_a2.nii.gz", FINE)])
    assert found(path) == [("p_a1.nii.gz", f"{4 + 30000**3} bytes of voxels")]


def test_damaged_compressed_data_are_faults(tmp_path):
    data = bytearray(damaged(tmp_path, lambda data: data))
    data[-8] ^= 1  # the checksum at the end
    path = make_zip(tmp_path, [("p_a1.nii.gz", bytes(data)), ("p_a2.nii.gz", b"no gzip")])
    (_, first), (_, second) = found(path)
    assert "cannot be read" in first and "damaged or cut off" in second


def test_a_damaged_member_is_a_fault(tmp_path):
    path = make_zip(tmp_path, [("p_a1.nii", FINE), ("p_a2.nii", FINE)])
    data = bytearray(path.read_bytes())
    data[data.index(b"p_a1.nii") + 8 + 360] ^= 1
    path.write_bytes(data)
    ((member, text),) = found(path)
    assert member == "p_a1.nii" and "cannot be read" in text


def test_an_archive_without_a_label_map_is_a_fault(tmp_path):
    assert found(make_zip(tmp_path, []), rule=dataclasses.replace(RULE, cases=())) == [("", "no label map")]
    (tmp_path / "none.zip").write_bytes(b"no zip")
    ((_, text),) = found(tmp_path / "none.zip")
    assert text.startswith("no readable zip file")


def test_an_archive_is_recognised_by_a_name_in_it(tmp_path):
    assert recognise_archive(RULE, make_zip(tmp_path, [("other", b""), ("p_a7.nii.gz", b"")]))
    assert not recognise_archive(RULE, make_zip(tmp_path, [("other", b"")]))
