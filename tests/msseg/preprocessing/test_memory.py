from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from msseg.preprocessing.case import preprocess_case
from msseg.preprocessing.memory import preparation_bytes
from planning.plan import Plan


@pytest.mark.parametrize("spacing_mm", [(0.8, 1.1, 1.0), (1.4, 0.9, 1.0), (1.0, 1.2, 0.9)])
def test_preparing_stays_below_what_was_said(make_plan: Callable[..., Plan], spacing_mm: tuple[float, ...]) -> None:
    shape = (160, 150, 150)
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[40:90, 40:90, 40:90] = 1
    plan = make_plan(spacing_mm=spacing_mm, normalisation="ct")
    tracemalloc.start()
    prepared = preprocess_case(image, label, (1.0, 1.0, 1.0), plan, plan.configurations["3d"], overwrite=True)
    taken = tracemalloc.get_traced_memory()[1] + image.nbytes + label.nbytes
    tracemalloc.stop()
    said = preparation_bytes(shape, 1, True, prepared.image.shape[1:])
    assert 0.6 * said < taken < said


def test_channels_and_labels_count() -> None:
    shape, new_shape = (50, 60, 70), (40, 60, 80)
    assert preparation_bytes(shape, 2, True, new_shape) > preparation_bytes(shape, 1, True, new_shape)
    assert preparation_bytes(shape, 1, True, new_shape) > preparation_bytes(shape, 1, False, new_shape)
