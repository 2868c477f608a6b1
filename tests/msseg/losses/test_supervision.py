from __future__ import annotations

import pytest
import torch

from msseg.losses import SupervisedLoss
from msseg.losses.supervision import downscale_target
from msseg.networks.outputs import Outputs


def any_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return logits.sum() + target.sum()


def test_levels_are_weighed_and_added() -> None:
    loss = SupervisedLoss(lambda logits, target: logits.mean(), weights=(0.5, 0.25))
    levels = [torch.full((1, 2, 4, 4), 2.0), torch.full((1, 2, 2, 2), 4.0)]
    assert loss(Outputs(levels), torch.zeros(1, 4, 4, dtype=torch.int64)) == 0.5 * 2 + 0.25 * 4


def test_level_of_weight_zero_is_never_looked_at() -> None:
    def refuse_small(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        assert logits.shape[2] == 4
        return logits.mean()

    levels = [torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2)]
    assert (
        SupervisedLoss(refuse_small, weights=(1.0, 0.0))(Outputs(levels), torch.zeros(1, 4, 4, dtype=torch.int64)) == 1
    )


def test_number_of_levels_and_weights_must_agree() -> None:
    loss = SupervisedLoss(any_loss, weights=(1.0,))
    with pytest.raises(ValueError, match="2 levels"):
        loss(Outputs([torch.ones(1, 1, 2), torch.ones(1, 1, 1)]), torch.zeros(1, 2, dtype=torch.int64))


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


def test_target_of_the_same_size_is_itself() -> None:
    target = torch.zeros(1, 3, 3, dtype=torch.int64)
    assert downscale_target(target, (3, 3)) is target
