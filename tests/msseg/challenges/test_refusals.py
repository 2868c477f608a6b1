"""What every challenge's check must refuse: one table of deeds for each kind of submission file."""

import gzip
import io
import tarfile
import zipfile

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from msseg.challenges.candidates import HEADER as CANDIDATES
from msseg.challenges.object_rows import HEADER as OBJECTS
from msseg.challenges.submission import check_submission
from msseg.challenges.table import CHALLENGES, find_challenge

SHAPE_XYZ = (4, 3, 2)
AFFINE = np.diag([0.8, 0.8, 3.0, 1.0])
FINE = np.zeros(SHAPE_XYZ, np.uint8)

# Challenge: images of two cases below -r, their members, and the member of a case that there is not.
ARCHIVES = {
    "kits19": (
        ["case_00210/imaging.nii.gz", "case_00211/imaging.nii.gz"],
        ["prediction_00210.nii.gz", "prediction_00211.nii.gz"],
        "prediction_00209.nii.gz",
    ),
    "lits17": (
        ["test-volume-2.nii", "test-volume-10.nii"],
        ["test-segmentation-2.nii", "test-segmentation-10.nii"],
        "test-segmentation-70.nii",
    ),
    "acdc": (
        ["patient101/patient101_frame01.nii.gz", "patient101/patient101_frame14.nii.gz"],
        ["patient101_ED.nii.gz", "patient101_ES.nii.gz"],
        "patient100_ED.nii.gz",
    ),
    **{
        name: (
            [f"{subject}/{subject}{ending}.nii.gz" for subject in subjects],
            [f"{subject}.nii.gz" for subject in subjects],
            f"{other}.nii.gz",
        )
        for name, ending, subjects, other in (
            ("brats19", "_t2", ("BraTS19_UAB_3456_1", "BraTS19_UAB_3490_1"), "BraTS19_UAB_3498_1"),
            ("brats20", "_t2", ("BraTS20_Validation_001", "BraTS20_Validation_002"), "BraTS20_Validation_003"),
            ("brats21", "_t2", ("BraTS2021_00001", "BraTS2021_00013"), "BraTS2021_00014"),
            ("brats23", "-t2f", ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001"), "BraTS-GLI-00002-000"),
            ("brats24", "-t2f", ("BraTS-GLI-02063-100", "BraTS-GLI-02063-101"), "BraTS-GLI-02064-100"),
        )
    },
    "decathlon": (
        ["Task04_Hippocampus/imagesTs/hippocampus_002.nii.gz", "Task04_Hippocampus/imagesTs/hippocampus_005.nii.gz"],
        ["Task04_Hippocampus/hippocampus_002.nii.gz", "Task04_Hippocampus/hippocampus_005.nii.gz"],
        "Task04_Hippocampus/hippocampus_001.nii.gz",
    ),
}


def nifti(array, name, affine=AFFINE):
    """The bytes of a label map under that name."""
    image = nibabel.Nifti1Image(array, affine)
    return image.to_bytes() if name.endswith(".nii") else gzip.compress(image.to_bytes())


def tarball(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def moved_by(millimetres):
    affine = AFFINE.copy()
    affine[0, 3] = millimetres
    return affine


# Deed: what it makes of the members and the other case's name, as bytes of the file, and what the check says to it.
ARCHIVE_DEEDS = {
    "nothing": (lambda members, other: zipped(members), ""),
    "a missing case": (lambda members, other: zipped(dict(list(members.items())[:1])), "no {1}"),
    "an extra case": (lambda members, other: zipped({**members, other: nifti(FINE, other)}), "an unknown case"),
    "a wrong grid": (
        lambda members, other: zipped({**members, first(members): nifti(FINE, first(members), moved_by(0.5))}),
        "a grid up to 0.5 mm away",
    ),
    "a wrong size": (
        lambda members, other: zipped({**members, first(members): nifti(FINE[:3], first(members))}),
        "3 x 3 x 2 voxels",
    ),
    "a wrong label value": (
        lambda members, other: zipped({**members, first(members): nifti(FINE + 9, first(members))}),
        "label values 9",
    ),
    "a wrong type": (
        lambda members, other: zipped({**members, first(members): nifti(FINE.astype(np.float32), first(members))}),
        "values of type float32",
    ),
    "another archive": (lambda members, other: tarball(members), "no readable zip file"),
    "a folder around all": (
        lambda members, other: zipped({f"predictions/{name}": data for name, data in members.items()}),
        "a name of no case",
    ),
}


def first(members):
    return next(iter(members))


@pytest.fixture
def archive_images(tmp_path):
    def make(paths):
        for path in paths:
            (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / path).write_bytes(nifti(FINE.astype(np.int16), path))
        if "patient101" in paths[0]:
            (tmp_path / "images/patient101/Info.cfg").write_text("ED: 1\nES: 14\n")
        return tmp_path / "images"

    return make


def faults_of(name, path, images):
    return [(fault.member, fault.found) for fault in check_submission(find_challenge(name), path, images)]


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("deed", ARCHIVE_DEEDS)
def test_a_zip_of_label_maps_is_refused_after(name, deed, tmp_path, archive_images):
    paths, names, other = ARCHIVES[name]
    change, expected = ARCHIVE_DEEDS[deed]
    (tmp_path / "file").write_bytes(change({one: nifti(FINE, one) for one in names}, other))
    found = faults_of(name, tmp_path / "file", archive_images(paths))
    if not expected:
        assert found == []
    else:
        assert any(expected.format(*names) in text for _, text in found), found


@pytest.mark.parametrize("name", [*ARCHIVES, "chaos"])
def test_a_member_of_more_bytes_than_any_submission_has_is_not_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr("msseg.challenges.zip_members.MOST_MEMBER_BYTES", 100)
    member = ARCHIVES[name][1][0] if name in ARCHIVES else "Task2/CT/2/Results/img000.png"
    (tmp_path / "file").write_bytes(zipped({member: bytes(101)}))
    assert (member, "101 bytes") in faults_of(name, tmp_path / "file", None)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = np.zeros((4, 5), np.uint8)
SLICES = {f"Task2/CT/2/Results/img00{number}.png": png(PAGE) for number in range(2)}
FIRST_SLICE, SECOND_SLICE = SLICES

CHAOS_DEEDS = {
    "nothing": (lambda: zipped(SLICES), ""),
    "a missing case": (lambda: zipped({"Task2/CT/9/Results/img000.png": png(PAGE)}), "no Task2/CT/2"),
    "a missing slice": (lambda: zipped({FIRST_SLICE: png(PAGE)}), "1 slices in Task2/CT/2/Results"),
    "an extra case": (lambda: zipped({**SLICES, "Task2/CT/9/Results/img000.png": png(PAGE)}), "an unknown series"),
    "a wrong size": (lambda: zipped({**SLICES, FIRST_SLICE: png(PAGE[:, :4])}), "4 x 4 pixels"),
    "a wrong label value": (lambda: zipped({**SLICES, FIRST_SLICE: png(PAGE + 7)}), "grey values 7"),
    "a wrong type": (lambda: zipped({**SLICES, FIRST_SLICE: png(PAGE.astype(np.uint16))}), "a picture of kind I;16"),
    "another archive": (lambda: tarball(SLICES), "no readable zip file"),
    "a folder around all": (lambda: zipped({f"x/{name}": data for name, data in SLICES.items()}), "a name of no slice"),
}


@pytest.fixture
def test_sets(tmp_path):
    folder = tmp_path / "Test_Sets/CT/2/DICOM_anon"
    folder.mkdir(parents=True)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    for z in range(2):
        image = SimpleITK.GetImageFromArray(np.zeros((1, *PAGE.shape), np.int16))
        image.SetOrigin((0.0, 0.0, 3.0 * z))
        image.SetMetaData("0020|0032", f"0\\0\\{3.0 * z}")
        image.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        image.SetMetaData("0008|0060", "CT")
        writer.SetFileName(str(folder / f"i000{z},0000b.dcm"))
        writer.Execute(image)
    return tmp_path / "Test_Sets"


@pytest.mark.parametrize("deed", CHAOS_DEEDS)
def test_chaos_slices_are_refused_after(deed, tmp_path, test_sets):
    make, expected = CHAOS_DEEDS[deed]
    (tmp_path / "file").write_bytes(make())
    found = faults_of("chaos", tmp_path / "file", test_sets)
    assert found == [] if not expected else any(expected in text for _, text in found), found


SCANS = {"luna16": ("1.3.6.1.4.1.1.2.1", "1.3.6.1.4.1.1.2.9"), "lidc": ("LIDC-IDRI-0001", "LIDC-IDRI-0009")}
# Rows below the header, by the scan that there is and one that there is not.
CANDIDATE_DEEDS = {
    "nothing": (lambda scan, other: [f"{scan},1,1,1,0.5"], ""),
    "no candidate": (lambda scan, other: [], ""),
    "an extra case": (lambda scan, other: [f"{other},1,1,1,0.5"], "the unknown scan"),
    "a name of no scan": (lambda scan, other: ["case_1,1,1,1,0.5"], "the row 'case_1"),
    "a wrong grid": (lambda scan, other: [f"{scan},1,1,99,0.5"], "outside the scan"),
    "a wrong value": (lambda scan, other: [f"{scan},1,1,1,1.5"], "the probability 1.5"),
    "a wrong type": (lambda scan, other: [f"{scan},1,1,one,0.5"], "the row '1,1,one"),
    "wrong columns": (lambda scan, other: [f"{scan},1,1,1"], "the row"),
}


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("deed", CANDIDATE_DEEDS)
def test_a_list_of_candidates_is_refused_after(name, deed, tmp_path):
    make, expected = CANDIDATE_DEEDS[deed]
    scan, other = SCANS[name]
    (tmp_path / "images").mkdir()
    (tmp_path / f"images/{scan}.nii.gz").write_bytes(nifti(FINE.astype(np.int16), "x.nii.gz", np.diag([-1, -1, 3, 1])))
    (tmp_path / "file").write_text("\n".join([CANDIDATES, *make(scan, other)]) + "\n")
    found = faults_of(name, tmp_path / "file", tmp_path / "images")
    assert found == [] if not expected else any(expected in text for _, text in found), found


OBJECT_DEEDS = {
    "nothing": (["a,2 2 5 1", "b,"], ""),
    "a missing case": (["a,2 2"], "no row of image b"),
    "an extra case": (["a,2 2", "b,", "c,"], "the unknown image c"),
    "a wrong size": (["a,20 2", "b,"], "pixel 21 of image a"),
    "a wrong value": (["a,2 2", "a,3 1", "b,"], "pixel 3 of image a, which line 2 has too"),
    "a wrong type": (["a,2.5 2", "b,"], "2.5"),
    "an odd count": (["a,2 2 5", "b,"], "an odd count of numbers (3)"),
    "wrong columns": (["a,2 2,1", "b,"], "the row 'a,2 2,1'"),
}


@pytest.mark.parametrize("deed", OBJECT_DEEDS)
def test_rows_of_objects_are_refused_after(deed, tmp_path):
    rows, expected = OBJECT_DEEDS[deed]
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.fromarray(PAGE).save(tmp_path / f"images/{name}.png")
    (tmp_path / "file").write_text("\n".join([OBJECTS, *rows]) + "\n")
    found = faults_of("dsb2018", tmp_path / "file", tmp_path / "images")
    assert found == [] if not expected else any(expected in text for _, text in found), found


@pytest.mark.parametrize("name", ["dsb2018", "luna16", "lidc"])
def test_a_list_that_is_too_large_no_text_or_of_another_header_is_refused(name, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a,b\n")
    assert "the header 'a,b'" in faults_of(name, tmp_path / "file", None)[0][1]
    (tmp_path / "file").write_bytes(zipped({"file": b""}) + b"\xff")
    assert "not UTF-8" in faults_of(name, tmp_path / "file", None)[0][1]
    monkeypatch.setattr("msseg.challenges.text_lines.MOST_TEXT_BYTES", 3)
    (tmp_path / "file").write_text("a,b\n")
    assert faults_of(name, tmp_path / "file", None) == [("", "4 bytes")]


FLOAT = np.full((4, 5), 0.5, np.float32)
STACK_DEEDS = {
    "nothing": ([FLOAT, FLOAT], ""),
    "a missing case": ([FLOAT], "1 page"),
    "an extra case": ([FLOAT] * 3, "3 pages"),
    "a wrong size": ([FLOAT, FLOAT[:3]], "5 x 3 pixels"),
    "a wrong value": ([FLOAT, FLOAT + 1], "values from 1.5 to 1.5"),
    "a wrong type": ([FLOAT, PAGE], "values of type uint8"),
}


@pytest.mark.parametrize("deed", STACK_DEEDS)
def test_a_stack_of_probabilities_is_refused_after(deed, tmp_path):
    pages, expected = STACK_DEEDS[deed]
    tifffile.imwrite(tmp_path / "images.tif", np.stack([PAGE, PAGE]), photometric="minisblack")
    with tifffile.TiffWriter(tmp_path / "file") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", contiguous=False)
    found = faults_of("isbi2012", tmp_path / "file", tmp_path / "images.tif")
    assert found == [] if not expected else any(expected in text for _, text in found), found


def test_a_stack_in_another_packing_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(zipped({"a.tif": b""}))
    assert "no readable TIFF" in faults_of("isbi2012", tmp_path / "file", None)[0][1]


def test_every_challenge_with_a_submission_has_its_deeds():
    with_check = {name for name, load in CHALLENGES.items() if load().check is not None}
    assert with_check == {*ARCHIVES, "chaos", *SCANS, "dsb2018", "isbi2012"}
