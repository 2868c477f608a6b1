from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from msseg.losses.presence import presence_loss, presence_targets


def test_a_class_is_present_where_any_voxel_has_it():
    target = torch.tensor([[[0, 2], [0, 0]], [[1, 1], [2, 0]]])
    present, known = presence_targets(target, 3)
    assert present.tolist() == [[False, True, False], [True, True, False]]
    assert known.all()


def test_what_ignored_voxels_may_hide_is_not_known():
    present, known = presence_targets(torch.tensor([[-1, 2, 0], [0, 0, 1]]), 2)
    assert present.tolist() == [[False, True], [True, False]]
    assert known.tolist() == [[False, True], [True, True]]


def test_the_loss_is_the_mean_negative_logarithm_of_the_true_answer():
    presence = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])  # present with probability 3/4 and 1/2
    target = torch.tensor([[1, 0]])
    assert presence_loss(presence, target).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_the_loss_is_the_binary_cross_entropy_of_the_softmax_against_one_hot_presence():
    presence = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[0, 1], [2, 2], [0, 0]])
    one_hot = torch.tensor([[[0, 1], [1, 0]], [[1, 0], [0, 1]], [[1, 0], [1, 0]]]).float()
    expected = F.binary_cross_entropy(presence.softmax(-1), one_hot)
    torch.testing.assert_close(presence_loss(presence, target), expected)


def test_a_class_that_is_not_known_does_not_count():
    presence = torch.tensor([[[0.0, 5.0], [0.0, 0.0]]], requires_grad=True)
    loss = presence_loss(presence, torch.tensor([[-1, 2]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert presence.grad[0, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
@pytest.mark.parametrize("label", [-1, 0, 1])
def test_it_is_finite_for_an_unlabelled_patch_and_for_certain_answers(label, size, dtype):
    presence = torch.tensor([[[size, -size]]], dtype=dtype, requires_grad=True)
    loss = presence_loss(presence, torch.full((1, 2, 2, 2), label))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert torch.isfinite(presence.grad).all()
