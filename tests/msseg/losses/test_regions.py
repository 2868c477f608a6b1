from __future__ import annotations

import monai.losses
import pytest
import torch
from torch.nn import functional as F

from msseg.losses import build_loss, region_targets
from planning.errors import PlanError


def test_regions_are_unions_of_labels_and_ignored_in_every_plane() -> None:
    target = torch.tensor([[0, 1, 2, 3, -1]])
    expected = [[[0, 1, 1, 1, -1], [0, 0, 1, 0, -1]]]
    assert region_targets(target, [(1, 2, 3), (2,)]).tolist() == expected


@pytest.mark.parametrize("batch", [True, False])
def test_loss_of_overlapping_regions_is_torchs_cross_entropy_and_monais_dice_less_one(batch: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    target = torch.randint(0, 2, (2, 3, 4, 5), generator=generator)
    dice = monai.losses.DiceLoss(sigmoid=True, batch=batch, smooth_nr=1e-5, smooth_dr=1e-5)(logits, target)
    expected = F.binary_cross_entropy_with_logits(logits, target.float()) + dice - 1
    for kind in (torch.int64, torch.int8, torch.bool, torch.float32):
        torch.testing.assert_close(build_loss("region_dice_bce", (1.0,), batch)(logits, target.to(kind)), expected)


def test_ignored_elements_of_a_single_region_count_as_if_they_were_not_there() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 1, 8, generator=generator)
    target = torch.tensor([[[1, 0, 1, 0, 0, -1, -1, -1]]])
    loss = build_loss("region_dice_bce", (1.0,), True)
    torch.testing.assert_close(loss(logits, target), loss(logits[:, :, :5], target[:, :, :5]))


def test_labels_in_place_of_regions_are_refused() -> None:
    with pytest.raises(PlanError, match=r"\(1, 8\).*region_targets"):
        build_loss("region_dice_bce", (1.0, 1.0), True)(torch.zeros(1, 2, 8), torch.zeros(1, 8, dtype=torch.int64))
