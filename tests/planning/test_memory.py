from __future__ import annotations

from dataclasses import replace

import pytest

from planning.grids import GRIDS, Grid, Node, encoder_sources, plain_grid
from planning.memory import feature_voxels, level_shapes, parameters, training_bytes
from planning.networks import MSS_UNET, PLAIN_UNET
from planning.rules import GIGABYTE

AUTHORS_STRIDES = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
AUTHORS_KERNELS = ((1, 3, 3), *((3, 3, 3),) * 5)


def test_level_shapes_divide_by_the_strides():
    assert level_shapes((48, 192, 192), ((1, 2, 2), (2, 2, 2))) == [(48, 192, 192), (48, 96, 96), (24, 48, 48)]


def test_mss_unet_has_the_authors_number_of_parameters():
    """Counted on the authors' public module; 29,593,940 where decoder kernels mirror the encoder's."""
    assert parameters(MSS_UNET, AUTHORS_STRIDES, AUTHORS_KERNELS, 1, 3) == 29_642_540
    mirrored = replace(MSS_UNET, decoder_kernel_level=0)
    assert parameters(mirrored, AUTHORS_STRIDES, AUTHORS_KERNELS, 1, 3) == 29_593_940


def test_feature_voxels_of_a_two_level_net_by_hand():
    # Level 0 (64 voxels): 2 + 2 convolutions and one upsampling of 32 features; level 1 (8 voxels): 2 of 64.
    written = 64 * 5 * 32 + 8 * 2 * 64
    assert feature_voxels(PLAIN_UNET, (4, 4, 4), ((2, 2, 2),), 3) == written + 64 * 3


def test_mss_unet_counts_the_scores_of_all_heads():
    strides = ((2, 2), (2, 2))
    alone = replace(MSS_UNET, counts_all_heads=False)
    assert feature_voxels(MSS_UNET, (8, 8), strides, 5) - feature_voxels(alone, (8, 8), strides, 5) == 5 * 16


def test_the_reference_feature_maps_take_the_reference_memory():
    assert training_bytes(560_000_000, 2, 3) == 8 * GIGABYTE
    assert training_bytes(85_000_000, 24, 2) == 16 * GIGABYTE


def nested_grid(levels: int) -> Grid:
    return _triangle(levels, lambda i, j: [Node(i, k) for k in range(j)] + [Node(i + 1, j - 1)])


def sharp_grid(levels: int) -> Grid:
    return _triangle(
        levels, lambda i, j: [Node(i, k) for k in range(j)] + [Node(i + m, j - m) for m in range(1, j + 1)]
    )


def _triangle(levels, sources_of) -> Grid:
    sources = encoder_sources(levels)
    for column in range(1, levels):
        for level in range(levels - column):
            sources[Node(level, column)] = tuple(sources_of(level, column))
    return Grid(levels, sources, (Node(0, levels - 1),))


def full_scale_grid(levels: int) -> Grid:
    bottom = levels - 1
    sources = encoder_sources(levels)
    for level in reversed(range(bottom)):
        finer = [Node(above, 0) for above in range(level + 1)]
        coarser = [Node(below, bottom - below) for below in range(level + 1, levels)]
        sources[Node(level, bottom - level)] = (*finer, *coarser)
    return Grid(levels, sources, (Node(0, bottom),))


def single_head_grid(levels: int) -> Grid:
    plain = plain_grid(levels)
    return Grid(levels, plain.sources, plain.outputs[:1])


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (single_head_grid, 7_852_545),
        (nested_grid, 9_163_329),
        (full_scale_grid, 9_787_905),
        (sharp_grid, 10_748_481),
    ],
)
def test_grids_of_the_school_have_their_published_number_of_parameters(build, published, monkeypatch):
    """U-Net, UNet++, UNet 3+ (raw) and UNet# in 2D: 3 channels, 1 class, features 32 to 512, linear upsampling."""
    monkeypatch.setitem(GRIDS, "school", build)
    row = replace(PLAIN_UNET, grid="school", down="pool", up="linear")
    assert parameters(row, ((2, 2),) * 4, ((3, 3),) * 5, 3, 1) == published
