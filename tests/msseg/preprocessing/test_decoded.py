from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msseg.data.dataset import read_dataset
from msseg.data.store import stored_names
from msseg.preprocessing import pipeline
from msseg.preprocessing.decoded import Decoded, DecodedCase, content_of, decoded_cases, keep, recall
from msseg.preprocessing.examine import examine_dataset
from msseg.preprocessing.pipeline import preprocess_dataset
from planning.plan import Plan

GIGABYTE = 1 << 30


def case_of(image: np.ndarray) -> DecodedCase:
    label = np.arange(image[0].size, dtype=np.uint8).reshape(image.shape[1:])
    return DecodedCase(image.astype(np.float32), label, (3.0, 1.0, 0.5), "abc")


@pytest.mark.parametrize(
    ("image", "kept_as"),
    [
        (np.arange(-12, 12).reshape(1, 2, 3, 4), np.int16),
        (np.arange(24).reshape(1, 2, 3, 4) * 0.5, np.float32),
        (np.arange(24).reshape(1, 2, 3, 4) * 2000, np.float32),
        (np.full((1, 2, 3, 4), -0.0), np.float32),
    ],
)
def test_a_case_comes_back_bit_for_bit_and_once(tmp_path: Path, image: np.ndarray, kept_as: type) -> None:
    decoded, case = Decoded(tmp_path, GIGABYTE), case_of(image)
    assert keep(decoded, "a", case)
    assert np.load(tmp_path / "a.image.npy").dtype == kept_as
    assert content_of(decoded, "a") == "abc"
    back = recall(decoded, "a")
    assert back is not None and back.image.dtype == np.float32
    np.testing.assert_array_equal(back.image.view(np.int32), case.image.view(np.int32))
    np.testing.assert_array_equal(back.label, case.label)
    assert (back.spacing_mm, back.content) == (case.spacing_mm, "abc")
    assert recall(decoded, "a") is None and list(tmp_path.iterdir()) == []


def test_a_case_beyond_its_share_is_not_kept(tmp_path: Path) -> None:
    whole, halves = np.arange(24).reshape(1, 2, 3, 4), np.arange(24).reshape(1, 2, 3, 4) / 2
    decoded = Decoded(tmp_path, most_bytes=24 * 2 + 24)
    assert keep(decoded, "whole", case_of(whole))
    assert not keep(decoded, "halves", case_of(halves))
    assert not keep(Decoded(tmp_path, 71), "whole", case_of(whole))


@pytest.mark.parametrize("damaged", ["a.json", "a.image.npy", "a.label.npy"])
def test_what_is_not_whole_is_not_recalled(tmp_path: Path, damaged: str) -> None:
    decoded = Decoded(tmp_path, GIGABYTE)
    keep(decoded, "a", case_of(np.zeros((1, 2, 3, 4))))
    path = tmp_path / damaged
    path.write_bytes(path.read_bytes()[:-5])
    assert recall(decoded, "a") is None


def test_a_full_disk_only_means_reading_again(tmp_path: Path) -> None:
    assert not keep(Decoded(tmp_path / "gone", GIGABYTE), "a", case_of(np.zeros((1, 2, 3, 4))))


def test_the_folder_lasts_as_long_as_the_run_and_shares_its_bytes(tmp_path: Path) -> None:
    with decoded_cases(tmp_path, cases=4, memory_bytes=1000) as decoded:
        assert decoded.most_bytes == 250
        (decoded.folder / "a.image.npy").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_in_time(tmp_path: Path) -> None:
    abandoned, active = tmp_path / ".decoded-old", tmp_path / ".decoded-new"
    abandoned.mkdir()
    active.mkdir()
    two_hours_ago = time.time() - 7200
    os.utime(abandoned, (two_hours_ago, two_hours_ago))
    with decoded_cases(tmp_path, 1, GIGABYTE):
        assert not abandoned.exists() and active.exists()


def test_prepared_from_what_was_examined_no_file_is_opened_again(
    box_folder: Path, make_plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, plan = read_dataset(box_folder), make_plan(spacing_mm=(1.5, 1.1, 0.9))
    preprocess_dataset(dataset, plan, "3d", tmp_path / "read", workers=1)
    with decoded_cases(tmp_path, 5, GIGABYTE) as decoded:
        examine_dataset(dataset, tmp_path / "examined", 1, decoded=decoded)
        for name in ("read_image", "read_label", "content_hash"):
            monkeypatch.delattr(pipeline, name)
        preprocess_dataset(dataset, plan, "3d", tmp_path / "kept", 1, decoded=decoded)
        assert list(decoded.folder.iterdir()) == []
    for name in stored_names(tmp_path / "read"):
        files = [tmp_path / store / f"{name}.safetensors" for store in ("read", "kept")]
        assert files[0].read_bytes() == files[1].read_bytes()
