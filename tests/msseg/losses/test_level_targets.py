from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from msseg.losses.level_targets import DOWNSCALES, downscale_target, rarest_first

# Isotropic and anisotropic factors, odd lengths rounded up, factors that no stride has, 2D and 3D.
GRIDS = [
    ((8, 8), (4, 4)),
    ((9, 7), (5, 4)),
    ((9, 12, 10), (9, 6, 5)),
    ((5, 11, 6), (3, 3, 2)),
    ((7, 5), (3, 5)),
    ((13, 8), (2, 1)),
]
ORDER = (5, 1, 2)


def random_target(shape: tuple[int, ...], labels: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(labels)[torch.randint(0, len(labels), (2, *shape), generator=generator)]


def cells(target: torch.Tensor, size: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Index (b, *size) of each cell and the labels of the voxels that it touches."""
    shape = target.shape[1:]
    for index in itertools.product(range(len(target)), *map(range, size)):
        box = [
            slice(i * length // wanted, -(-(i + 1) * length // wanted))
            for i, length, wanted in zip(index[1:], shape, size, strict=True)
        ]
        yield index, target[(index[0], *box)].flatten().tolist()


def test_halved_target_takes_the_lower_of_two_equally_near_labels() -> None:
    target = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7]])
    assert downscale_target(target, (4,)).tolist() == [[0, 2, 4, 6]]
    assert downscale_target(target, (2,)).tolist() == [[1, 5]]


def test_thirds_take_the_middle_label() -> None:
    assert downscale_target(torch.tensor([[0, 1, 2, 3, 4, 5]]), (2,)).tolist() == [[1, 4]]


def test_odd_lengths_rounded_up_stay_inside() -> None:
    assert downscale_target(torch.tensor([[0, 1, 2, 3, 4]]), (3,)).tolist() == [[0, 2, 4]]
    assert downscale_target(torch.tensor([[0, 1, 2, 3, 4]]), (2,)).tolist() == [[1, 3]]


def test_downscaling_between_labels_0_and_2_invents_no_1_and_keeps_ignored_voxels() -> None:
    target = torch.tensor([0, 2, -1]).repeat_interleave(9)[None, :, None].expand(2, -1, 8)
    small = downscale_target(target, (13, 4))
    assert small.shape == (2, 13, 4)
    assert small.unique().tolist() == [-1, 0, 2]


@pytest.mark.parametrize(("shape", "size"), GRIDS)
@pytest.mark.parametrize("mode", sorted(DOWNSCALES))
def test_downscaling_never_makes_a_label_that_the_cell_does_not_touch(
    mode: str, shape: tuple[int, ...], size: tuple[int, ...]
) -> None:
    for seed, labels in enumerate([(0, 2), (0, 1, 2, 5), (-1, 0, 5), (-1, 1, 2), (5,), (-1,)]):
        target = random_target(shape, labels, seed)
        small = downscale_target(target, size, mode, ORDER)
        assert small.shape == (2, *size)
        assert small.dtype == target.dtype
        for index, touched in cells(target, size):
            assert small[index].item() in touched


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_pooling_a_binary_mask_is_plain_max_pooling(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    target = random_target(shape, (0, 0, 0, 0, 1), seed=1)
    plain = {2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[len(shape)](target[:, None].float(), size)
    assert torch.equal(downscale_target(target, size, "max_pool"), plain[:, 0].long())


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_pooling_asks_a_cell_for_the_classes_in_order_then_whether_all_is_background(
    shape: tuple[int, ...], size: tuple[int, ...]
) -> None:
    target = random_target(shape, (-1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 5), seed=2)
    small = downscale_target(target, size, "max_pool", ORDER)
    for index, touched in cells(target, size):
        assert small[index].item() == next(label for label in (*ORDER, -1, 0) if label in touched)


def test_background_with_ignored_voxels_is_unknown_to_pooling_but_foreground_is_known() -> None:
    target = torch.tensor([[0, -1, 1, -1, 0, 0]])
    assert downscale_target(target, (3,), "max_pool").tolist() == [[-1, 1, 0]]


def test_higher_index_counts_as_the_rarer_class_where_no_order_is_given() -> None:
    target = torch.tensor([[1, 2, 3, 0, 0, 1]])
    assert downscale_target(target, (2,), "max_pool").tolist() == [[3, 1]]
    assert downscale_target(target, (2,), "max_pool", (1, 2, 3, 0)).tolist() == [[1, 1]]


def test_area_takes_the_most_frequent_label_and_the_rarer_class_of_a_tie() -> None:
    target = torch.tensor([[0, 0, 1, 2, 2, 1, 0, 1, 0, -1, -1, 0, -1, -1, -1, 1]])
    assert downscale_target(target, (4,), "area", (1, 2)).tolist() == [[0, 1, 0, -1]]
    assert downscale_target(target[:, 3:7], (2,), "area", (2, 1)).tolist() == [[2, 1]]


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_area_is_the_first_of_the_most_frequent_labels_of_each_cell(
    shape: tuple[int, ...], size: tuple[int, ...]
) -> None:
    target = random_target(shape, (-1, 0, 1, 2, 5), seed=4)
    small = downscale_target(target, size, "area", ORDER)
    for index, touched in cells(target, size):
        counts = [touched.count(label) for label in (*ORDER, 0, -1)]
        assert small[index].item() == (*ORDER, 0, -1)[int(np.argmax(counts))]


@pytest.mark.parametrize("mode", sorted(DOWNSCALES))
def test_target_of_the_same_size_is_itself(mode: str) -> None:
    target = torch.zeros(1, 3, 3, dtype=torch.int64)
    assert downscale_target(target, (3, 3), mode) is target


def test_classes_are_ordered_by_falling_weight_and_the_higher_index_first_among_equals() -> None:
    assert rarest_first((0.9, 0.2, 0.5, 0.2)) == (2, 3, 1)
