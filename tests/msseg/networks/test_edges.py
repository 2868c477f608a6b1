from __future__ import annotations

import pytest
import torch

from msseg.networks.edges import UPS, EdgeShape, MaxPool, Same, Unified
from msseg.networks.units import UnitShape


def shape(source: int, target: int, factor: tuple[int, ...], norm: str = "none", padding: str = "zeros") -> EdgeShape:
    ones = (1,) * len(factor)
    return EdgeShape(
        UnitShape(len(factor), source, target, (3,) * len(factor), ones, True, norm, "relu", padding), factor
    )


@pytest.mark.parametrize("factor", [(2, 2), (1, 2), (4, 4), (3, 2), (1, 2, 2), (2, 2, 2), (1, 4, 2)])
@pytest.mark.parametrize("name", UPS)
def test_every_way_up_gives_the_targets_size_and_announces_its_channels(name: str, factor: tuple[int, ...]) -> None:
    edge = UPS[name](shape(3, 2, factor))
    size = tuple(3 * step - (step > 1) for step in factor)
    assert edge(torch.zeros(1, 3, *(3,) * len(factor)), size).shape == (1, edge.out_channels, *size)


def test_linear_keeps_the_sources_channels_and_the_others_have_the_targets() -> None:
    assert {name: UPS[name](shape(3, 2, (2, 2))).out_channels for name in UPS} == dict.fromkeys(UPS, 2) | {"linear": 3}


def test_the_pair_convolves_each_voxel_with_the_next_where_the_level_goes_up() -> None:
    edge = UPS["nearest_convolution_pair"](shape(1, 1, (1, 2)))
    edge.unit.convolution.weight.data.fill_(1.0)
    edge.unit.convolution.bias.data.zero_()
    assert edge.unit.convolution.kernel_size == (1, 2)
    # 1 1 2 2 and then zero: each with its right neighbour.
    assert edge(torch.tensor([[[[1.0, 2.0]]]]), (1, 4)).tolist() == [[[[2.0, 3.0, 4.0, 2.0]]]]


def test_the_pair_sees_the_mirror_image_behind_the_last_voxel_where_it_mirrors() -> None:
    edge = UPS["nearest_convolution_pair"](shape(1, 1, (1, 2), padding="mirrored"))
    edge.unit.convolution.weight.data.fill_(1.0)
    edge.unit.convolution.bias.data.zero_()
    assert edge(torch.tensor([[[[1.0, 2.0]]]]), (1, 4)).tolist() == [[[[2.0, 3.0, 4.0, 4.0]]]]


def test_transposed_with_norm_ends_in_an_activation() -> None:
    edge = UPS["transposed_norm"](shape(2, 3, (2, 2), norm="batch"))
    x = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    up = edge(x, (6, 5))
    assert up.shape == (2, 3, 6, 5)
    assert up.min() == 0


def test_max_pooling_counts_windows_that_the_border_cuts() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert MaxPool(shape(1, 1, (2, 2)))(x, (1, 2)).tolist() == [[[[4.0, 5.0]]]]


def test_a_unified_edge_ends_in_a_convolution_to_the_common_width() -> None:
    edge = Unified(Same(shape(3, 3, (1, 1))), shape(3, 5, (1, 1), norm="batch").unit)
    assert edge.out_channels == 5
    assert edge(torch.rand(2, 3, 4, 4), (4, 4)).shape == (2, 5, 4, 4)
