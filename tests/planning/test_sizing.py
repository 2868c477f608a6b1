from __future__ import annotations

import pytest

from planning.errors import PlanError
from planning.networks import PLAIN_UNET, RESENC_M, UNET_SHARP
from planning.rules import GIGABYTE
from planning.sizing import Target, batch_limit, first_topology, fit, low_resolution, patch_batch


def target(shape, spacing=(1.0, 1.0, 1.0), cases=50) -> Target:
    voxels = 1.0
    for edge in shape:
        voxels *= edge
    return Target(tuple(spacing), tuple(float(edge) for edge in shape), voxels * cases, 3)


def test_a_batch_holds_a_twentieth_of_the_data_set_at_most():
    assert batch_limit((10, 10, 10), 100_000.0) == 5
    few = fit(PLAIN_UNET, target((36, 50, 35), cases=60), 8 * GIGABYTE, "patch")
    many = fit(PLAIN_UNET, target((36, 50, 35), cases=2000), 8 * GIGABYTE, "patch")
    assert few.batch_size == few.batch_limit == 2
    assert few.topology == many.topology
    assert 2 < many.batch_size < many.batch_limit


def test_a_residual_encoder_may_take_the_whole_data_set_and_must_fit_the_reference_batch():
    assert batch_limit((10, 10, 10), 100_000.0, RESENC_M.batch_share) == 100
    assert (patch_batch(PLAIN_UNET, 2), patch_batch(RESENC_M, 2), patch_batch(RESENC_M, 3)) == (2, 12, 2)


def test_a_short_network_ends_at_its_levels_on_every_grid_it_is_tried_on():
    image = target((136, 511, 511), (3.0, 0.78, 0.78))
    size = fit(UNET_SHARP, image, 8 * GIGABYTE, "patch")
    assert len(size.topology.kernel_sizes) == 5
    coarse = low_resolution(UNET_SHARP, image, size.topology.patch_size, 8 * GIGABYTE)
    assert coarse is not None


@pytest.mark.parametrize("levels", [1, 0])
def test_one_level_has_no_decoder(levels):
    with pytest.raises(PlanError, match=f"most_levels: found {levels}, expected at least 2"):
        first_topology(target((64, 64, 64)), levels)


def test_more_memory_never_gives_a_smaller_patch():
    sizes = [fit(PLAIN_UNET, target((200, 300, 250)), gb * GIGABYTE, "patch").voxels for gb in (1, 2, 4, 8, 16, 32)]
    assert sizes == sorted(sizes)


def test_no_low_resolution_where_the_patch_sees_a_quarter_of_the_image():
    assert low_resolution(PLAIN_UNET, target((40, 56, 40)), (40, 56, 40), 8 * GIGABYTE) is None


def test_low_resolution_first_brings_the_axes_together():
    coarse = low_resolution(PLAIN_UNET, target((136, 511, 511), (3.0, 0.78, 0.78)), (56, 192, 192), 8 * GIGABYTE)
    assert coarse is not None
    assert max(coarse.spacing_mm) / min(coarse.spacing_mm) < 2.1
    assert coarse.dataset_voxels < target((136, 511, 511)).dataset_voxels / 2


def test_low_resolution_is_dropped_where_it_saves_little():
    # A fifth of the image is seen: a slightly coarser grid would do, which is not worth a stage.
    seen = (64, 128, 128)
    image = target((96, 232, 232))
    share = 64 * 128 * 128 / (96 * 232 * 232)
    assert 0.19 < share < 0.25
    assert low_resolution(PLAIN_UNET, image, seen, 8 * GIGABYTE) is None


def test_the_2d_batch_uses_the_memory_that_the_patch_leaves():
    size = fit(PLAIN_UNET, target((60, 60), (1.0, 1.0), cases=10**6), 8 * GIGABYTE, "patch")
    assert size.topology.patch_size == (64, 64)
    assert size.batch_size == pytest.approx(85_000_000 * 12 / size.voxels, abs=1)
