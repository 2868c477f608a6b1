from __future__ import annotations

import numpy as np
import pytest
import torch

from msseg.inference.memory import (
    _left_of_group,
    case_bytes,
    forward_bytes,
    free_bytes,
    prediction_bytes,
    rolled_axis,
    rolling_bytes,
)
from msseg.inference.passes import Passes
from msseg.inference.placement import Placement
from msseg.inference.sliding_window import make_window
from msseg.inference.streaming import _Ring
from planning.counting import parameters


def test_one_row_of_tiles_across_the_image_is_held():
    assert rolled_axis((100, 50, 20), (10, 10, 10)) == 0
    assert rolling_bytes(3, (100, 50, 20), (10, 10, 10), 4) == 3 * 10 * 50 * 20 * 4
    assert rolling_bytes(3, (4, 50, 20), (10, 10, 10), 2) == 3 * 10 * 10 * 20 * 2  # along y; z is padded


@pytest.mark.parametrize("shape", [(20, 9, 10), (9, 20, 10), (5, 7, 23)])
def test_the_prediction_is_what_is_taken(make_configuration, shape):
    image = np.zeros((1, *shape), np.float32)
    window = make_window(image, make_configuration((8, 8, 8)), 5, Passes([torch.nn.Identity()]))
    cpu = torch.device("cpu")
    for dtype in (torch.float32, torch.float16):
        held = _Ring(window, Placement(cpu, cpu, 1, dtype))._scores
        assert held.numel() * held.element_size() == rolling_bytes(5, window.shape, window.patch, dtype.itemsize)


def test_a_case_takes_its_rows_an_answer_a_slab_and_labels():
    whole = case_bytes(61, (149, 426, 515), (48, 160, 192), (224, 388, 469), 1)
    rows, answer, labels = 61 * 48 * 426 * 515 * 4, 61 * 48 * 160 * 192 * 4, 224 * 388 * 469
    assert whole == rows + answer + labels + (64 << 20)
    assert case_bytes(300, (8, 8, 8), (8, 8, 8), (10, 10, 10), 1) - case_bytes(
        300, (8, 8, 8), (8, 8, 8), (1, 1, 1), 1
    ) == 2 * (1000 - 1)


def test_61_classes_of_a_large_ct_fit_six_gigabytes(make_configuration):
    configuration = make_configuration(
        (48, 160, 192),
        features=(32, 64, 128, 256, 320, 320),
        strides=((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
        kernel_sizes=((1, 3, 3), *((3, 3, 3),) * 5),
    )
    sizes = (61, (149, 426, 515), (224, 388, 469))
    exact = prediction_bytes(configuration, *sizes)
    assert exact < 6e9
    assert exact - prediction_bytes(configuration, *sizes, max_bytes=2 << 30) == 61 * 48 * 426 * 515 * 2


@pytest.mark.parametrize(
    ("patch_size", "features", "measured_mb"),
    [((40, 56, 40), (32, 64, 128, 256), 200), ((64, 128, 112), (32, 64, 128, 256, 320), 1294)],
)
def test_what_a_patch_takes_is_what_was_measured(make_configuration, patch_size, features, measured_mb):
    """Resident memory that one pass of a fresh process added, transformed filters included."""
    levels = len(features)
    configuration = make_configuration(
        patch_size, features=features, strides=((2, 2, 2),) * (levels - 1), kernel_sizes=((3, 3, 3),) * levels
    )
    filters = 1.6 * 4 * parameters(configuration, 1, 3)
    assert (forward_bytes(configuration, 1, 1) + filters) / 1e6 == pytest.approx(measured_mb, rel=0.1)


def test_free_memory_is_what_the_group_leaves_where_there_is_a_limit(tmp_path):
    assert _left_of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("300\n")
    assert _left_of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert _left_of_group(tmp_path) == 700
    assert free_bytes() is None or free_bytes() > 0
