import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest

from msseg.challenges.challenge import ConversionOptions, SubmissionError, SubmissionOptions
from msseg.challenges.conversion import convert
from msseg.challenges.dsb2018 import DSB2018
from msseg.challenges.run_length import decode, runs_from_text
from msseg.challenges.submission import check_submission, submit
from msseg.data.dataset import read_dataset
from msseg.data.image import read_label
from msseg.errors import DatasetError
from msseg.files import read_json

ONE = np.array(
    [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 2, 2, 0],
        [0, 0, 2, 2, 2, 0],
        [0, 0, 2, 2, 2, 0],
    ]
)


def test_masks_of_objects_become_numbers_and_the_first_keeps_what_two_have(bowl, tmp_path, load):
    report = convert(DSB2018, bowl, tmp_path / "set", ConversionOptions())
    assert report.is_complete and (report.converted, report.kept, report.test) == (3, 0, 1)
    label = load(tmp_path / "set/labelsTr/one.png")
    assert label.dtype == np.uint16 and np.array_equal(label, ONE)
    assert (load(tmp_path / "set/labelsTr/two.png") == 1).all()
    (note,) = report.problems
    assert (note.case, note.found, note.severity) == ("one", "1 pixels in more than one mask", "note")


def test_images_lose_their_alpha_and_share_their_channels(bowl, tmp_path, load):
    convert(DSB2018, bowl, tmp_path / "set", ConversionOptions())
    for name in ("one", "two"):
        image = load(tmp_path / f"set/imagesTr/{name}_0000.png")
        assert np.array_equal(image, load(bowl / f"stage1_train/{name}/images/{name}.png")[..., :3])
    written = (tmp_path / "set/imagesTs/three_0000.png").read_bytes()
    assert written == (bowl / "stage1_test/three/images/three.png").read_bytes()


def test_the_data_set_is_described_and_read(bowl, tmp_path):
    convert(DSB2018, bowl, tmp_path / "set", ConversionOptions())
    assert read_json(tmp_path / "set/dataset.json") == {
        "name": "set",
        "channel_names": {"0": "red", "1": "green", "2": "blue"},
        "labels": {"background": 0, "nucleus": 1},
        "numTraining": 2,
        "file_ending": ".png",
        "instances": True,
    }
    dataset = read_dataset(tmp_path / "set")
    assert dataset.instances and [case.name for case in dataset.training] == ["one", "two"]
    assert [case.name for case in dataset.test] == ["three"]


def test_grey_pictures_alone_make_one_channel(bowl, tmp_path, load):
    shutil.rmtree(bowl / "stage1_train/two")
    shutil.rmtree(bowl / "stage1_test")
    convert(DSB2018, bowl, tmp_path / "set", ConversionOptions())
    assert read_json(tmp_path / "set/dataset.json")["channel_names"] == {"0": "grey"}
    assert load(tmp_path / "set/imagesTr/one_0000.png").shape == (4, 6)


def test_the_folder_of_cases_itself_is_taken_too(bowl, tmp_path):
    assert convert(DSB2018, bowl / "stage1_train", tmp_path / "set", ConversionOptions()).converted == 2


def test_an_archive_that_was_not_unpacked_is_named(tmp_path):
    (tmp_path / "stage1_train.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"Unpack stage1_train\.zip first"):
        convert(DSB2018, tmp_path, tmp_path / "set", ConversionOptions())


def damage_size(case, save):
    save(case / "masks/m1.png", np.full((6, 4), 255, np.uint8))


def damage_masks(case, save):
    shutil.rmtree(case / "masks")


def damage_text(case, save):
    (case / "masks/m1.png").write_text("not an image")


def damage_cut(case, save):
    content = (case / "images/one.png").read_bytes()
    (case / "images/one.png").write_bytes(content[: len(content) // 2])


def damage_second(case, save):
    save(case / "images/other.png", np.zeros((4, 6), np.uint8))


@pytest.mark.parametrize(
    ("damage", "file", "found"),
    [
        (damage_size, "m1.png", "4 x 6 pixels"),
        (damage_masks, "masks", "no such folder"),
        (damage_text, "m1.png", ""),
        (damage_cut, "one.png", ""),
        (damage_second, "images", "2 images"),
    ],
)
def test_a_case_that_cannot_be_taken_is_named_and_the_others_are_converted(bowl, tmp_path, save, damage, file, found):
    damage(bowl / "stage1_train/one", save)
    report = convert(DSB2018, bowl, tmp_path / "set", ConversionOptions())
    (problem,) = report.problems
    assert problem.case == "one" and problem.file.endswith(file) and found in problem.found
    assert not report.is_complete and report.converted == 2
    assert [path.name for path in (tmp_path / "set/imagesTr").iterdir()] == ["two_0000.png"]
    assert read_json(tmp_path / "set/dataset.json")["numTraining"] == 1


def test_masks_without_pixels_of_their_own_are_noted_and_are_no_objects(bowl, tmp_path, save, load):
    masks = bowl / "stage1_train/two/masks"
    save(masks / "all_and_more.png", np.full((5, 5), 255, np.uint8))
    save(masks / "none.png", np.zeros((5, 5), np.uint8))
    report = convert(DSB2018, bowl, tmp_path / "set", ConversionOptions())
    assert report.is_complete and (load(tmp_path / "set/labelsTr/two.png") == 1).all()
    found = {problem.found for problem in report.problems if problem.case == "two"}
    assert found == {"25 pixels in more than one mask", "a mask without a pixel of its own"}


@pytest.fixture
def predictions(tmp_path, save):
    """Masks of object numbers of images `one` and `two`, the latter without an object."""
    save(tmp_path / "pred/one.png", ONE.astype(np.uint16))
    save(tmp_path / "pred/two.png", np.zeros((5, 5), np.uint16))
    return tmp_path / "pred"


def test_a_submission_has_a_row_an_object(bowl, predictions, tmp_path):
    options = SubmissionOptions(bowl / "stage1_train")
    report = submit(DSB2018, predictions, tmp_path / "out/s.csv", options)
    rows = (tmp_path / "out/s.csv").read_text().splitlines()
    assert rows == ["ImageId,EncodedPixels", "one,1 2 5 2 9 2", "one,11 2 14 3 18 3", "two,"]
    assert "2 objects in 2 images, 1 of them without any" in report.summary()
    assert check_submission(DSB2018, tmp_path / "out/s.csv", bowl / "stage1_train") == []


def test_a_submission_of_a_converted_set_decodes_to_its_labels(bowl, tmp_path):
    convert(DSB2018, bowl, tmp_path / "set", ConversionOptions())
    submit(DSB2018, tmp_path / "set/labelsTr", tmp_path / "s.csv", SubmissionOptions(tmp_path / "set/imagesTr"))
    rows = [row.split(",") for row in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    for name in ("one", "two"):
        label, _ = read_label(tmp_path / f"set/labelsTr/{name}.png")
        masks = [decode(runs_from_text(runs), label.shape[1:]) for image, runs in rows if image == name]
        assert all(np.array_equal(mask, label[0] == number) for number, mask in enumerate(masks, start=1))


def test_masks_of_one_value_are_split_into_their_components(tmp_path, save):
    mask = np.array([[255, 0, 0, 255], [0, 255, 0, 255]], np.uint8)
    save(tmp_path / "pred/a.png", mask)
    report = submit(DSB2018, tmp_path / "pred", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text().splitlines()[1:] == ["a,1 1 4 1", "a,7 2"]
    assert "connected components" in report.summary() and "-r" in report.summary()


def test_masks_can_be_said_to_hold_objects(tmp_path, save):
    save(tmp_path / "pred/a.png", np.array([[1, 0, 1]], np.uint8))
    submit(DSB2018, tmp_path / "pred", tmp_path / "s.csv", SubmissionOptions(masks="instances"))
    assert (tmp_path / "s.csv").read_text().splitlines()[1:] == ["a,1 1 3 1"]


def test_nothing_is_written_for_a_prediction_that_is_missing(bowl, predictions, tmp_path):
    (predictions / "two.png").unlink()
    with pytest.raises(DatasetError, match="no prediction for two"):
        submit(DSB2018, predictions, tmp_path / "s.csv", SubmissionOptions(bowl / "stage1_train"))
    assert not (tmp_path / "s.csv").exists()


def test_a_prediction_of_another_image_or_size_is_refused(bowl, predictions, tmp_path, save):
    save(predictions / "two.png", np.zeros((5, 6), np.uint16))
    options = SubmissionOptions(bowl / "stage1_train")
    with pytest.raises(DatasetError, match=r"two\.png: 6 x 5 pixels; expected 5 x 5"):
        submit(DSB2018, predictions, tmp_path / "s.csv", options)
    save(predictions / "two.png", np.zeros((5, 5), np.uint16))
    save(predictions / "four.png", np.zeros((5, 5), np.uint16))
    with pytest.raises(DatasetError, match="four, which the challenge's images do not have"):
        submit(DSB2018, predictions, tmp_path / "s.csv", options)


def test_a_file_with_a_fault_leaves_what_was_there_before(predictions, tmp_path):
    (tmp_path / "s.csv").write_text("the entry of yesterday")
    challenge = replace(DSB2018, write=lambda _folder, path, _options: [str(path.write_text("id,runs\n"))])
    with pytest.raises(SubmissionError, match=rf"{tmp_path}/s\.csv, line 1: the header 'id,runs'"):
        submit(challenge, predictions, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "the entry of yesterday"
    assert [path.name for path in tmp_path.iterdir() if "writing" in path.name] == []


def test_real_masks_of_objects_come_back_as_they_were(test_data, tmp_path, save):
    names = ("nuclei_003", "nuclei_006")
    for name in names:
        ids = read_label(test_data / f"DSB2018/instances/{name}.png")[0][0]
        case = tmp_path / "bowl/stage1_train" / name
        (case / "images").mkdir(parents=True)
        shutil.copyfile(test_data / f"DSB2018/images/{name}.png", case / f"images/{name}.png")
        for number in range(1, int(ids.max()) + 1):
            key = f"{zlib.crc32(str(number).encode()):08x}"
            save(case / f"masks/{key}.png", ((ids == number) * 255).astype(np.uint8))
    convert(DSB2018, tmp_path / "bowl", tmp_path / "set", ConversionOptions())
    for name in names:
        before = read_label(test_data / f"DSB2018/instances/{name}.png")[0]
        after = read_label(tmp_path / f"set/labelsTr/{name}.png")[0]
        pairs = np.unique(np.stack([before.ravel(), after.ravel()]), axis=1)
        assert pairs.shape[1] == before.max() + 1 == after.max() + 1
