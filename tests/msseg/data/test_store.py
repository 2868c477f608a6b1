from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from msseg.data.store import (
    StoredCase,
    case_key,
    open_case,
    read_patch,
    remove_case,
    stored_names,
    write_case,
)
from msseg.errors import DatasetError

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 5, 6, 7)).astype(np.float32)
LABEL = RNG.integers(0, 3, (5, 6, 7))


def write(folder: Path, name: str = "patient 1.a", key: str = "key") -> StoredCase:
    locations = {2: np.argwhere(LABEL == 2), 1: np.argwhere(LABEL == 1)}
    write_case(folder, name, IMAGE, LABEL, locations, {"spacing_mm": [2.0, 1.0, 1.0]}, key)
    return open_case(folder, name)


def test_a_case_comes_back_as_it_was_written(tmp_path: Path) -> None:
    case = write(tmp_path)
    np.testing.assert_array_equal(case.image, IMAGE)
    assert case.label is not None
    np.testing.assert_array_equal(case.label, LABEL)
    np.testing.assert_array_equal(case.locations[1], np.argwhere(LABEL == 1))
    assert (case.properties, case.key) == ({"spacing_mm": [2.0, 1.0, 1.0]}, "key")


def test_any_safetensors_reader_reads_a_case(tmp_path: Path) -> None:
    write(tmp_path)
    tensors = load_file(tmp_path / "patient 1.a.safetensors")
    assert sorted(tensors) == ["image", "label", "locations.1", "locations.2"]
    np.testing.assert_array_equal(tensors["image"], IMAGE)
    np.testing.assert_array_equal(tensors["locations.2"], np.argwhere(LABEL == 2))


@pytest.mark.parametrize(("highest", "lowest", "dtype"), [(255, 0, "uint8"), (3, -1, "int8"), (300, -1, "int16")])
def test_a_label_takes_the_smallest_type(tmp_path: Path, highest: int, lowest: int, dtype: str) -> None:
    label = np.full((1, 1, 2), highest)
    label[0, 0, 0] = lowest
    write_case(tmp_path, "a", np.zeros((1, 1, 1, 2)), label, {}, {}, "k")
    stored = open_case(tmp_path, "a").label
    assert stored is not None and stored.dtype == dtype
    np.testing.assert_array_equal(stored, label)


def test_a_case_without_label_has_none(tmp_path: Path) -> None:
    write_case(tmp_path, "a", IMAGE, None, {}, {}, "k")
    case = open_case(tmp_path, "a")
    assert case.label is None and case.locations == {}
    assert read_patch(case, (0, 0, 0), (1, 1, 1))[1] is None


def test_a_patch_is_a_copy_of_its_box(tmp_path: Path) -> None:
    image, label = read_patch(write(tmp_path), (1, 2, 3), (4, 4, 7))
    np.testing.assert_array_equal(image, IMAGE[:, 1:4, 2:4, 3:7])
    np.testing.assert_array_equal(label, LABEL[1:4, 2:4, 3:7])
    image += 1


def test_arrays_are_views_of_the_file_and_cannot_be_changed(tmp_path: Path) -> None:
    case = write(tmp_path)
    assert not case.image.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        case.image[0, 0, 0, 0] = 1


def test_an_open_case_survives_being_written_again(tmp_path: Path) -> None:
    case = write(tmp_path, key="old")
    write_case(tmp_path, case.name, IMAGE * 0, LABEL * 0, {}, {}, "new")
    np.testing.assert_array_equal(case.image, IMAGE)
    assert case_key(tmp_path, case.name) == "new"


def test_keys_and_names_of_an_empty_or_missing_store(tmp_path: Path) -> None:
    assert stored_names(tmp_path / "nowhere") == []
    assert case_key(tmp_path, "nobody") is None
    with pytest.raises(DatasetError, match="no such case"):
        open_case(tmp_path, "nobody")


def test_names_are_sorted_and_a_removed_case_is_gone(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path, name)
    assert stored_names(tmp_path) == ["a", "b"]
    remove_case(tmp_path, "a")
    remove_case(tmp_path, "a")
    assert stored_names(tmp_path) == ["b"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x05", b"\x04\0\0\0\0\0\0\0null", b"\xff" * 80],
    ids=["empty", "too short", "another header", "absurd length"],
)
def test_a_file_that_is_no_case_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    assert case_key(tmp_path, "a") is None
    with pytest.raises(DatasetError, match=r"a\.safetensors: not a prepared case"):
        open_case(tmp_path, "a")


def test_a_case_cut_short_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert case_key(tmp_path, "a") is None


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import numpy as np
from msseg.data import store

written = store._write_tensors
def write_and_die(stream, arrays, metadata):
    written(stream, arrays, metadata)
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)

store._write_tensors = write_and_die
store.write_case(Path(sys.argv[1]), "a", np.ones((1, 9, 9, 9)), None, {}, {}, "new")
"""


def test_a_killed_writer_leaves_the_old_case_or_none(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path)]
    assert subprocess.run(arguments, env=dict(os.environ)).returncode == -signal.SIGKILL
    assert stored_names(tmp_path) == [] and case_key(tmp_path, "a") is None
    write(tmp_path, "a", key="old")
    subprocess.run(arguments, env=dict(os.environ))
    assert stored_names(tmp_path) == ["a"] and case_key(tmp_path, "a") == "old"


def test_a_spawned_process_reads_the_same(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        case_in_child = pool.apply(open_case, (tmp_path, "a"))
    np.testing.assert_array_equal(case_in_child.image, IMAGE)
