from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msseg.errors import DatasetError
from msseg.instances.coding import BORDER, BORDER_PX, CORE, LEVELS, RIM, InstanceCoding, _pieces

CODING = InstanceCoding(1)


def discs(shape: tuple[int, ...], count: int, largest: int, seed: int) -> np.ndarray:
    """Numbered balls of random radii, many of which touch, the later behind the earlier."""
    generator = np.random.default_rng(seed)
    ids = np.zeros(shape, np.int32)
    grid = np.indices(shape)
    for number in range(1, count + 1):
        centre = np.array([generator.integers(0, n) for n in shape]).reshape(-1, *[1] * len(shape))
        ids[(((grid - centre) ** 2).sum(0) <= generator.integers(1, largest) ** 2) & (ids == 0)] = number
    return ids


def test_levels_of_two_squares_that_touch_are_those_worked_out_by_hand():
    ids = np.zeros((7, 12), np.uint16)
    ids[1:6, 1:6], ids[1:6, 6:11] = 9, 4
    expected = [
        "............",
        ".rrrbbbbrrr.",
        ".rcRbbbbRcr.",
        ".rcRbbbbRcr.",
        ".rcRbbbbRcr.",
        ".rrrbbbbrrr.",
        "............",
    ]
    # Of depths .5, 1.5 and 2.5 those from 1.25 on are core, unless the neighbour is too near.
    signs = {".": 0, "b": BORDER, "r": RIM, "c": CORE, "R": CORE}
    assert CODING.to_index(ids).tolist() == [[signs[sign] for sign in row] for row in expected]


def test_a_gap_of_one_pixel_leaves_a_border_of_one_on_either_side():
    ids = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2]])
    assert CODING.to_index(ids).tolist() == [[CORE, CORE, RIM, BORDER, 0, BORDER, RIM, CORE, CORE]]


def test_objects_that_stand_apart_have_no_border():
    ids = np.array([[1, 1, 0, 0, 2, 2]])
    assert BORDER not in CODING.to_index(ids)


def test_the_edge_of_the_image_is_no_outline():
    ids = np.ones((1, 6, 6), np.uint8)
    assert set(CODING.to_index(ids).ravel()) == {CORE}
    ids[:, :, 5] = 0
    # Depths .5 to 4.5 from the right; the left, where the image ends, is the deepest.
    assert CODING.to_index(ids)[0, 3].tolist() == [CORE, CORE, CORE, RIM, RIM, 0]


def test_a_slice_is_coded_as_an_image_is():
    ids = discs((60, 50), 12, 14, seed=1)
    np.testing.assert_array_equal(CODING.to_index(ids[None])[0], CODING.to_index(ids))


def test_an_object_of_one_pixel_is_core_though_it_touches_another():
    ids = np.zeros((9, 12), np.int32)
    ids[1:8, 1:8], ids[4, 8] = 1, 2
    levels = CODING.to_index(ids)
    assert levels[4, 8] == CORE and {*levels[4, 6:8], *levels[3:6, 7]} == {BORDER}


def test_tiny_objects_in_a_row_have_a_core_each_and_apart_where_there_is_room():
    ids = np.repeat(np.arange(1, 6), 2)[None]
    cores = np.flatnonzero(CODING.to_index(ids)[0] == CORE)
    assert sorted(ids[0, cores]) == [1, 2, 3, 4, 5]
    assert (np.diff(cores) > 1).all()


def test_a_number_in_several_pieces_is_coded_piece_by_piece():
    ids = np.zeros((5, 11), np.int32)
    ids[:, :4], ids[:, 7:] = 3, 3
    levels = CODING.to_index(ids)
    assert ndimage.label(levels == CORE)[1] == 2 and BORDER not in levels


def test_a_core_that_falls_apart_keeps_its_largest_piece():
    ids = np.zeros((13, 30), np.int32)
    ids[1:12, 1:12], ids[3:10, 20:27], ids[6, 12:20] = 1, 1, 1  # a large and a small square on one string
    levels = CODING.to_index(ids)
    assert ndimage.label(levels == CORE)[1] == 1
    assert levels[6, 6] == CORE and levels[6, 23] == RIM


@pytest.mark.parametrize("kind", [np.uint32, np.int64])
def test_numbers_beyond_sixteen_bits_are_told_apart(kind: type):
    ids = np.array([[1, 1, 1, 1, 65537, 65537, 65537, 65537, 2**31 + 1, 2**31 + 1, 2**31 + 1, 2**31 + 1]], kind)
    small = np.repeat([1, 2, 3], 4)[None]
    np.testing.assert_array_equal(CODING.to_index(ids), CODING.to_index(small))


def test_more_pieces_than_sixteen_bits_hold_are_counted():
    ids = np.zeros((520, 520), np.uint16)
    ids[::2, ::2] = 1
    assert _pieces(ids).max() == 260 * 260


@pytest.mark.parametrize(("shape", "count", "largest", "seed"), [((120, 130), 40, 18, 0), ((24, 40, 40), 25, 9, 1)])
def test_levels_have_the_properties_they_promise(shape: tuple[int, ...], count: int, largest: int, seed: int):
    ids = discs(shape, count, largest, seed)
    levels = CODING.to_index(ids)
    np.testing.assert_array_equal(levels > 0, ids > 0)
    touching = np.ones((3,) * ids.ndim)
    for number in np.unique(ids[ids > 0]):
        core = (levels == CORE) & (ids == number)
        pieces = ndimage.label(ids == number, touching)[1]
        assert ndimage.label(core, touching)[1] == pieces
        others = (levels == CORE) & (ids != number)
        assert not (ndimage.binary_dilation(core, touching) & others).any()
    near = np.zeros(ids.shape, bool)
    for number in np.unique(ids[ids > 0]):
        others = (ids > 0) & (ids != number)
        near |= (ids == number) & (ndimage.distance_transform_edt(~others) <= BORDER_PX)
    assert near[levels == BORDER].all()
    # A pixel near another object is border, except the one that its object keeps for core.
    assert ((levels[near] == BORDER) | (levels[near] == CORE)).all()


def test_values_are_semantic_and_those_of_the_file():
    coding = InstanceCoding(255)
    levels = np.arange(len(LEVELS), dtype=np.uint8)
    assert coding.values == (0, 255, 255, 255)
    assert coding.to_values(levels).tolist() == [0, 255, 255, 255]
    assert coding.to_values(levels).dtype == np.uint8


def test_no_objects_are_background():
    assert not CODING.to_index(np.zeros((1, 4, 5), np.uint16)).any()
    assert CODING.to_index(np.zeros((0, 4), np.uint16)).shape == (0, 4)


def test_negative_numbers_and_a_value_of_background_are_refused():
    with pytest.raises(DatasetError, match="object number -1"):
        CODING.to_index(np.array([[-1, 2]]))
    with pytest.raises(DatasetError, match="value is 0"):
        InstanceCoding(0)
