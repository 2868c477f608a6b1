import pytest

from msseg.errors import CheckpointError
from msseg.files import atomic_path, content_hash, read_json, value_hash, write_json


def test_json_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "folder" / "value.json"
    write_json(path, {"spacing_mm": [3.0, 0.78, 0.78], "name": "Niere – é"})
    assert read_json(path) == {"spacing_mm": [3.0, 0.78, 0.78], "name": "Niere – é"}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert read_json(path) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("named", [(), (".writing-1.json",)])
def test_a_full_disk_is_said_of_the_file_that_was_to_be_written(tmp_path, named):
    path = tmp_path / "value.json"
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(path):
        raise OSError(28, "No space left on device", *named)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "value.json"):
        (tmp_path / "absent").read_bytes()
    assert caught.value.filename == str(tmp_path / "absent")


def test_the_temporary_file_has_the_ending_that_image_writers_look_at(tmp_path):
    with atomic_path(tmp_path / "label.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path


def test_a_broken_json_file_is_named_with_the_callers_error(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{"version": 1,')
    with pytest.raises(CheckpointError, match=r"plan\.json: not valid JSON"):
        read_json(path, CheckpointError)
    with pytest.raises(CheckpointError, match="no such file"):
        read_json(tmp_path / "absent.json", CheckpointError)


@pytest.mark.parametrize("text", ["NaN", '{"std": -Infinity}', "[" * 100_000])
def test_json_that_could_not_be_written_again_is_refused(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"plan\.json: not valid JSON"):
        read_json(path, CheckpointError)


def test_content_hash_depends_on_bytes_and_order_alone(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    assert content_hash(a, b) == content_hash(c, b)
    assert content_hash(a, b) != content_hash(b, a)


def test_value_hash_does_not_depend_on_the_order_of_keys():
    assert value_hash({"a": 1, "b": [1, 2]}) == value_hash({"b": [1, 2], "a": 1})
    assert value_hash({"a": 1}) != value_hash({"a": 2})
