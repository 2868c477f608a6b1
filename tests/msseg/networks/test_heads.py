from __future__ import annotations

import torch

from msseg.networks.heads import HEADS, HeadShape


def test_a_linear_head_has_a_kernel_of_its_own_on_every_axis() -> None:
    head = HEADS["linear"](HeadShape(3, 4, 2, kernel=3, bias=False, level_kernel=(1, 3, 3)))
    assert head.kernel_size == (3, 3, 3)
    assert head.bias is None
    assert head(torch.zeros(1, 4, 2, 3, 4)).shape == (1, 2, 2, 3, 4)


def test_the_schools_head_goes_over_as_many_channels_as_classes_but_over_two_for_one() -> None:
    for classes, hidden in ((1, 2), (2, 2), (5, 5)):
        first, last = HEADS["school"](HeadShape(2, 4, classes, kernel=1, bias=True, level_kernel=(1, 3)))
        assert (first.convolution.out_channels, first.convolution.kernel_size) == (hidden, (1, 3))
        assert (last.in_channels, last.out_channels, last.kernel_size) == (hidden, classes, (1, 1))
