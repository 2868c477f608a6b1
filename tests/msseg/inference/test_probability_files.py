from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from msseg.data.geometry import Geometry, NiftiSpace
from msseg.errors import DatasetError
from msseg.inference.probability_files import probabilities_path, read_probabilities, write_probabilities
from planning.instances import InstancePlan

SPACE = NiftiSpace(1, (1.0, 0.7, 0.7, 3.0), 1, 2, (0.0, 0.1, 0.2), (-5.5, 1 / 3, 2.0), (0.7,) * 12, 10)
GRID = Geometry((2, 5, 7), (3.0, 0.7, 1 / 3), origin_mm=(1.5, -2.25, 1e-9), nifti=SPACE)
LABELS = {"background": 0, "organ": 7, "tumour": 3}


def random_probabilities(shape=(3, *GRID.shape)) -> np.ndarray:
    scores = np.random.default_rng(0).exponential(size=shape)
    return (scores / scores.sum(0)).astype(np.float32)


@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_written_is_read_back_within_half_a_step(tmp_path, bits):
    path, probabilities = probabilities_path("a", tmp_path), random_probabilities()
    write_probabilities(path, probabilities, GRID, LABELS, bits)
    stored = read_probabilities(path)
    assert list(stored.labels) == list(LABELS) and stored.instances is None
    assert path.name == "a.probabilities.npz"
    assert (stored.geometry, stored.labels, stored.bits) == (GRID, LABELS, bits)
    assert stored.probabilities.dtype == np.float32 and stored.largest_error == 0.5 / (2**bits - 1)
    assert np.abs(stored.probabilities - probabilities).max() <= stored.largest_error + 1e-7


def test_certain_voxels_are_exact(tmp_path):
    probabilities = np.stack([np.eye(4, dtype=np.float32), 1 - np.eye(4, dtype=np.float32)])[:, None]
    grid = Geometry((1, 4, 4), (1.0, 1.0, 1.0))
    for bits in (8, 16):
        write_probabilities(tmp_path / "a.npz", probabilities, grid, {"background": 0, "one": 1}, bits)
        np.testing.assert_array_equal(read_probabilities(tmp_path / "a.npz").probabilities, probabilities)


def test_values_are_written_block_by_block_in_the_order_of_the_array(tmp_path, monkeypatch):
    monkeypatch.setattr("msseg.inference.probability_files._BLOCK_VALUES", 9)
    turned = random_probabilities((3, 7, 5, 2)).transpose(0, 3, 2, 1)
    write_probabilities(tmp_path / "a.npz", turned, GRID, LABELS)
    np.testing.assert_allclose(read_probabilities(tmp_path / "a.npz").probabilities, turned, atol=1e-5)


def test_the_arrays_are_what_the_page_says(tmp_path):
    write_probabilities(tmp_path / "a.npz", random_probabilities(), GRID, LABELS, 8)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert sorted(archive) == ["header", "probabilities"]
        assert archive["probabilities"].dtype == np.uint8 and archive["probabilities"].shape == (3, 2, 5, 7)
        header = json.loads(str(archive["header"]))
    assert header["axes"] == "class, z, y, x" and header["classes"] == [list(one) for one in LABELS.items()]


def test_levels_carry_the_objects_that_they_are_of(tmp_path):
    write_probabilities(tmp_path / "a.npz", random_probabilities(), GRID, LABELS, 8, InstancePlan("nucleus", 255))
    assert read_probabilities(tmp_path / "a.npz").instances == InstancePlan("nucleus", 255)


@pytest.mark.parametrize(
    ("probabilities", "labels", "bits", "said"),
    [
        (random_probabilities(), LABELS, 12, "bits=12"),
        (random_probabilities(), {"background": 0, "organ": 1}, 8, "3 classes"),
        (random_probabilities((3, 2, 5, 6)), LABELS, 8, "on a grid of"),
    ],
)
def test_what_does_not_belong_together_is_not_written(tmp_path, probabilities, labels, bits, said):
    with pytest.raises(ValueError, match=said):
        write_probabilities(tmp_path / "a.npz", probabilities, GRID, labels, bits)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_a_broken_and_a_foreign_file_are_told_apart_from_ours(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DatasetError, match="no such file"):
        read_probabilities(path)
    write_probabilities(path, random_probabilities(), GRID, LABELS)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match="no whole file of probabilities"):
        read_probabilities(path)
    path.write_text("not a zip at all")
    with pytest.raises(DatasetError, match="no whole file of probabilities"):
        read_probabilities(path)
    np.savez(path, softmax=np.zeros(3))
    with pytest.raises(DatasetError, match="lacks one of its arrays"):
        read_probabilities(path)
    np.savez(path, header=np.array({"a": 1}, dtype=object), probabilities=np.zeros(3))
    with pytest.raises(DatasetError, match="no whole file of probabilities"):
        read_probabilities(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(DatasetError):
        read_probabilities(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version 2, expected 1"),
        ({"bits": 16}, "uint8 for 16 bits"),
        ({"classes": [["background", 0], ["one", 1]]}, "2 classes"),
        ({"classes": ["background", "one", "two"]}, "its header lacks something"),
        ({"instances": {"name": "nucleus"}}, "its header lacks something"),
        ({"geometry": {"shape": [2, 5, 7]}}, "its grid lacks something"),
        ({"geometry": None}, "its grid lacks something"),
    ],
)
def test_a_header_that_contradicts_the_values_is_refused(tmp_path, change, said):
    path = tmp_path / "a.npz"
    write_probabilities(path, random_probabilities(), GRID, LABELS, 8)
    with np.load(path, allow_pickle=False) as archive:
        header, values = json.loads(str(archive["header"])), archive["probabilities"]
    np.savez(path, header=np.array(json.dumps({**header, **change})), probabilities=values)
    with pytest.raises(DatasetError, match=said):
        read_probabilities(path)
