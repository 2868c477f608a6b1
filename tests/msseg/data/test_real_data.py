"""The traps of the real test data, one by one: each ends in the right reading or in the right message."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from msseg.data.checks import check_across_cases, check_case, check_dataset_structure
from msseg.data.dataset import Case, read_dataset
from msseg.data.geometry import grid_distance_mm
from msseg.data.image import read_channels, read_geometry, read_image, read_label, write_label
from msseg.data.labels import LabelMap
from msseg.errors import DatasetError

MULTI_ORGAN = LabelMap(tuple(range(118)))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("rgb_datatype/rgb_test_file.nii.gz", "RGB colour voxels"),
        ("5d_zero_pixdim/warp_field_5d.nii.gz", "5 dimensions (60 x 55 x 52 x 1 x 3)"),
        ("lfs_pointer/git_lfs_pointer_named.nii.gz", "a git LFS pointer"),
        ("lfs_pointer/git_lfs_pointer_named.mha", "a git LFS pointer"),
    ],
)
def test_bad_inputs_are_refused_with_their_reason(test_data, capfd, file, message):
    with pytest.raises(DatasetError) as caught:
        read_image([test_data / "bad_inputs" / file])
    assert message in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_image_and_a_label_of_another_crop_name_both_shapes(test_data):
    folder = test_data / "bad_inputs/shape_mismatch"
    case = Case("ct", (folder / "ct_pulmonary_image.nii.gz",), folder / "ct_pulmonary_label_heart_other_grid.nii.gz")
    checked = check_case(case, 1, MULTI_ORGAN)
    (problem,) = checked.report.problems
    assert "shape 233 x 167 x 191" in problem.found
    assert "122 x 102 x 112" in problem.expected
    assert checked.image is not None


@pytest.fixture
def hippocampus(test_data, tmp_path):
    """Three good cases in a folder that a test may spoil."""
    source, folder = test_data / "Task04_Hippocampus", tmp_path / "Task04_Hippocampus"
    description = json.loads((source / "dataset.json").read_text())
    description["training"] = description["training"][:3]
    description["numTraining"] = 3
    for entry in description["training"]:
        for name in entry.values():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, folder / name)
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def _list_also(folder, name):
    description = json.loads((folder / "dataset.json").read_text())
    entry = {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"}
    description["training"].append(entry)
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("file", "room", "case", "missing"),
    [
        ("hippocampus_118_image_without_label", "imagesTr", "hippocampus_118", "label"),
        ("hippocampus_010_label_without_image", "labelsTr", "hippocampus_010", "image"),
    ],
)
def test_a_file_without_its_partner_is_named_whether_listed_or_not(test_data, hippocampus, file, room, case, missing):
    source = test_data / f"Task04_Hippocampus/broken/{file}.nii.gz"
    shutil.copy(source, hippocampus / room / f"{case}.nii.gz")
    (note,) = check_dataset_structure(read_dataset(hippocampus))
    assert note.case == case
    assert note.found.endswith(f"and without {missing}")
    _list_also(hippocampus, case)
    problems = [p for p in check_dataset_structure(read_dataset(hippocampus)) if p.severity == "error"]
    assert [(problem.case, problem.found) for problem in problems] == [(case, f"no such {missing} file")]


def test_a_label_of_a_foreign_grid_is_named_with_both_shapes(test_data, hippocampus):
    dataset = read_dataset(hippocampus)
    case = dataset.training[0]
    foreign = test_data / "Task04_Hippocampus/broken/hippocampus_281_label_foreign_grid.nii.gz"
    checked = check_case(Case("x", case.image_paths, foreign), 1, dataset.label_map)
    (problem,) = checked.report.problems
    assert "shape 512 x 512 x 94" in problem.found


def test_all_hippocampus_cases_pass_the_check(test_data):
    dataset = read_dataset(test_data / "Task04_Hippocampus")
    reports = [check_case(case, 1, dataset.label_map).report for case in dataset.training]
    assert check_dataset_structure(dataset) == []
    assert [problem for report in reports for problem in report.problems] == []
    assert check_across_cases(reports) == []


def test_two_channels_of_an_nnunet_folder_pass_the_check(test_data):
    dataset = read_dataset(test_data / "volumes/BraTS2015_2ch")
    checked = check_case(dataset.training[0], 2, dataset.label_map, dataset.channels)
    assert checked.report.problems == ()
    assert checked.image.shape == (2, 155, 240, 240)
    assert set(np.unique(checked.label)) <= set(range(5))


def test_a_mask_that_reads_as_nearly_one_is_a_mask(test_data):
    label, _ = read_label(test_data / "volumes/BraTS2015_2ch/brainmasks/brats_2013_pat0003_1.nii.gz")
    assert label.dtype == np.uint8
    assert np.unique(label).tolist() == [0, 1]


def test_float_labels_of_hippocampus_are_integers(test_data):
    label, _ = read_label(test_data / "Task04_Hippocampus/labelsTr/hippocampus_003.nii.gz")
    assert label.dtype == np.uint8
    assert np.unique(label).tolist() == [0, 1, 2]


def test_channels_on_three_grids_are_all_named(test_data):
    folder = test_data / "volumes/TCGA_FG_6692_raw_4ch"
    paths = tuple(folder / f"TCGA-FG-6692_{name}.nii.gz" for name in ("t1", "t1c", "t2", "flair"))
    problems = check_case(Case("x", paths), 4, LabelMap((0, 1))).report.problems
    assert [(problem.file, problem.found) for problem in problems] == [
        (str(paths[2]), "shape 224 x 256 x 26 voxels (x, y, z)"),
        (str(paths[3]), "shape 208 x 256 x 26 voxels (x, y, z)"),
    ]


def test_a_4d_perfusion_series_gives_its_volumes_as_channels(test_data):
    path = test_data / "volumes/Unlabelled_viewer_samples/pcasl.nii.gz"
    image, geometry = read_image([path])
    assert image.shape == (10, 20, 68, 52)
    assert geometry.spacing_mm == pytest.approx((6, 3, 3), abs=1e-5)
    with pytest.raises(DatasetError, match="a 4-D file of 10 volumes"):
        read_label(path)


def test_a_scale_slope_is_honoured(test_data):
    path = test_data / "volumes/Unlabelled_viewer_samples/CT_AVM.nii.gz"
    assert np.allclose(read_image([path])[0][0], nibabel.load(path).get_fdata().T, atol=1e-3)


@pytest.mark.parametrize("name", ["anatomical", "reoriented_anat_moved"])
def test_big_endian_files_are_read_in_native_order_with_their_labels(test_data, name):
    folder = test_data / "volumes/BigEndian_NIfTI"
    case = Case(name, (folder / f"{name}.nii",), folder / f"{name}_label.nii.gz")
    checked = check_case(case, 1, LabelMap((0, 1)))
    assert checked.report.is_usable
    assert checked.image.dtype == np.dtype("=f4")
    want = nibabel.load(case.image_paths[0]).get_fdata().T
    assert np.allclose(checked.image[0], want, rtol=1e-6)


def test_grids_six_tenths_of_a_micrometre_apart_are_one_grid_with_a_note(test_data):
    folder = test_data / "volumes/SpineMR_ref_pred_labels"
    distance_mm = grid_distance_mm(read_geometry(folder / "ref.nii.gz"), read_geometry(folder / "pred.nii.gz"))
    assert 0 < distance_mm < 1e-3
    values = tuple(np.unique(read_label(folder / "pred.nii.gz")[0]).tolist())
    case = Case("spine", (folder / "ref.nii.gz",), folder / "pred.nii.gz")
    checked = check_case(case, 1, LabelMap(values))
    assert [problem.severity for problem in checked.report.problems] == ["note"]
    assert checked.report.is_usable


@pytest.mark.parametrize(
    ("case", "shape", "spacing_mm"),
    [("case_00061", (512, 512, 29), (0.9766, 0.9766, 5.0)), ("case_00088", (512, 512, 99), (0.4375, 0.4375, 3.0))],
)
def test_kits_slices_lie_along_the_first_stored_axis_the_last_of_the_array(test_data, case, shape, spacing_mm):
    geometry = read_geometry(test_data / f"KiTS19_labels/{case}/segmentation.nii.gz")
    assert geometry.shape == shape
    assert geometry.spacing_mm == pytest.approx(spacing_mm, abs=1e-4)
    assert geometry.direction[2] == pytest.approx((0, 0, -1))  # from head to foot


@pytest.mark.parametrize("name", ["brain1", "brain2", "breast1"])
def test_nrrd_pairs_pass_the_check_and_come_back_on_their_grid(test_data, tmp_path, name):
    folder = test_data / "volumes/NRRD_tumour_MR"
    case = Case(name, (folder / f"{name}_image.nrrd",), folder / f"{name}_label.nrrd")
    checked = check_case(case, 1, LabelMap((0, 1)))
    assert checked.report.is_usable
    assert checked.report.foreground_voxels > 0
    write_label(tmp_path / "out.nrrd", checked.label, checked.geometry)
    assert grid_distance_mm(read_geometry(tmp_path / "out.nrrd"), checked.geometry) < 1e-9


def test_phantom_label_values_with_gaps_get_a_reversible_map(test_data):
    folder = test_data / "volumes/NRRD_tumour_MR"
    case = Case("p", (folder / "prostate_phantom_image.nrrd",), folder / "prostate_phantom_label.nrrd")
    label_map = LabelMap((0, 1, 7, 8, 9))
    label = check_case(case, 1, label_map).label
    assert np.unique(label).tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(label_map.to_values(label), read_label(case.label_path)[0])


def test_channels_of_mixed_types_are_one_float32_image(test_data):
    paths = sorted((test_data / "volumes/BraTS_4ch/images").iterdir())
    channels = read_channels(paths)
    assert channels.errors == ()
    assert channels.image.shape == (4, 155, 240, 240)


@pytest.mark.parametrize(
    "file",
    [
        "Unlabelled_viewer_samples/CT_pitch.nii.gz",
        "Unlabelled_viewer_samples/chris_PD.nii.gz",
        "Prostate_MR/ProstateX-0000_t2_tse_tra.nii.gz",
        "SpinalCord/errsm_t1_image.nii.gz",
        "BigEndian_NIfTI/anatomical.nii",
        "MSD_Spleen_crop/spleen_2_image.nii.gz",
    ],
)
def test_oblique_and_permuted_images_agree_with_simple_itk_in_space(test_data, tmp_path, file):
    sitk = pytest.importorskip("SimpleITK")
    path = test_data / "volumes" / file
    image, geometry = read_image([path])
    other = sitk.ReadImage(str(path))
    rng = np.random.default_rng(0)
    for _ in range(5):
        voxel = rng.integers(0, geometry.shape)
        place = other.TransformIndexToPhysicalPoint(voxel[::-1].tolist())
        assert geometry.positions_mm(voxel[None])[0] == pytest.approx(place, abs=2e-3)
        assert image[0][tuple(voxel)] == pytest.approx(other[voxel[::-1].tolist()])
    write_label(tmp_path / "out.nii.gz", np.zeros(geometry.shape, np.uint8), geometry)
    assert np.array_equal(nibabel.load(tmp_path / "out.nii.gz").affine, nibabel.load(path).affine)
    assert read_geometry(tmp_path / "out.nii.gz") == geometry
