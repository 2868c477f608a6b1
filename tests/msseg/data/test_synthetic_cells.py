from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, label

from msseg.data.synthetic_cells import KINDS, SyntheticCells, synthetic_cells, write_cells, write_dsb2018


@pytest.fixture(scope="module")
def cells() -> list[SyntheticCells]:
    return [synthetic_cells(0, index) for index in range(12)]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_same_seed_same_pixels(cells: list[SyntheticCells]):
    again = synthetic_cells(0, 5)
    assert np.array_equal(again.image, cells[5].image)
    assert np.array_equal(again.instances, cells[5].instances)


def test_images_and_seeds_differ(cells: list[SyntheticCells]):
    other_seed = synthetic_cells(1, 0)
    for other in (cells[3], other_seed):
        assert other.image.shape != cells[0].image.shape or not np.array_equal(other.image, cells[0].image)


def test_the_kinds_take_turns_and_sizes_are_mixed(cells: list[SyntheticCells]):
    assert [one.kind for one in cells[:4]] == ["fluorescence", "brightfield", "histology", "fluorescence"]
    sizes = {one.instances.shape for one in cells}
    assert len(sizes) >= 3
    assert all(128 <= side <= 256 for size in sizes for side in size)


def test_only_histology_is_in_colour(cells: list[SyntheticCells]):
    for one in cells:
        assert one.image.shape == one.instances.shape + ((3,) if one.kind == "histology" else ())
        assert one.image.dtype == np.uint8 and one.instances.dtype == np.uint16


def test_nuclei_are_bright_on_dark_dark_on_bright_or_purple_on_pink(cells: list[SyntheticCells]):
    for one in cells:
        inside, outside = (np.median(one.image[mask], axis=0) for mask in (one.instances > 0, one.instances == 0))
        if one.kind == "fluorescence":
            assert outside < 30 and inside > 1.5 * outside
        elif one.kind == "brightfield":
            assert outside > 120 and inside < 0.8 * outside
        else:
            assert inside[2] > inside[0] > inside[1]
            assert outside[0] > outside[1] and (inside < outside).all()


def test_numbers_run_from_one_without_a_gap(cells: list[SyntheticCells]):
    for one in cells:
        assert np.array_equal(np.unique(one.instances), np.arange(one.instances.max() + 1))
        assert one.instances.max() >= 3


def test_many_nuclei_touch_another_one_and_some_touch_none(cells: list[SyntheticCells]):
    touching = alone = 0
    for one in cells:
        for number in range(1, one.instances.max() + 1):
            around = one.instances[binary_dilation(one.instances == number)]
            is_touching = bool(((around != 0) & (around != number)).any())
            touching, alone = touching + is_touching, alone + (not is_touching)
    assert touching > 50 and alone > 50


def test_a_nucleus_is_one_piece(cells: list[SyntheticCells]):
    pieces = [label(one.instances == n)[1] for one in cells for n in range(1, one.instances.max() + 1)]
    assert np.mean(np.array(pieces) == 1) > 0.98


def test_nuclei_are_of_several_sizes(cells: list[SyntheticCells]):
    areas = np.concatenate([np.bincount(one.instances.ravel())[1:] for one in cells])
    assert np.percentile(areas, 90) > 4 * np.percentile(areas, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_and_size_can_be_given(kind: str):
    one = synthetic_cells(0, 0, kind, (40, 56))
    assert one.kind == kind and one.instances.shape == (40, 56) and one.instances.max() >= 1


def test_a_folder_holds_images_and_instances_for_training_and_test(tmp_path: Path):
    folder = write_cells(tmp_path / "cells", training=3, test=1, seed=4)
    names = ["cells_000.png", "cells_001.png", "cells_002.png"]
    for part in ("images", "instances"):
        assert sorted(path.name for path in (folder / part).iterdir()) == names
        assert [path.name for path in (folder / "test" / part).iterdir()] == ["cells_003.png"]
    for index, name in enumerate(names):
        expected = synthetic_cells(4, index)
        assert np.array_equal(pixels(folder / "images" / name), expected.image)
        assert np.array_equal(pixels(folder / "instances" / name), expected.instances)


def test_the_bowls_layout_has_a_mask_for_every_nucleus(tmp_path: Path):
    folder = write_dsb2018(tmp_path / "bowl", training=1, test=1, seed=4)
    expected, case = synthetic_cells(4, 0), folder / "stage1_train" / "cells_000"
    image = pixels(case / "images" / "cells_000.png")
    assert image.shape == (*expected.instances.shape, 4) and (image[..., 3] == 255).all()
    masks = [pixels(path) for path in sorted((case / "masks").iterdir())]
    assert all(set(np.unique(mask)) == {0, 255} for mask in masks)
    assert np.array_equal(sum((mask > 0) * number for number, mask in enumerate(masks, 1)), expected.instances)
    assert (folder / "stage1_test" / "cells_001" / "images" / "cells_001.png").is_file()
    assert not (folder / "stage1_test" / "cells_001" / "masks").exists()
