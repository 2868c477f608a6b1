from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets.attentionunet import AttentionBlock

from msseg.networks.gates import AttentionGate, GateShape
from planning.part_rules import GATE_WIDTHS


def test_a_gate_multiplies_by_the_sigmoid_of_what_signal_and_feature_say_together() -> None:
    gate = AttentionGate(GateShape(2, feature_channels=1, signal_channels=1, width=1, norm="none"))
    for unit, weight, bias in ((gate.feature, 2.0, 1.0), (gate.signal, -1.0, 0.0), (gate.attention, 1.0, -0.5)):
        unit.convolution.weight.data.fill_(weight)
        unit.convolution.bias.data.fill_(bias)
    gated = gate(torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[4.0, 9.0]]]]))
    # 2 · 3 + 1 - 4 = 3, sigmoid(3 - 0.5); the other is below 0 and its feature is 0.
    assert gated[0, 0, 0].tolist() == pytest.approx([3 / (1 + math.exp(-2.5)), 0.0])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_gate_equals_monais_with_the_same_weights(dimensions: int) -> None:
    ours = AttentionGate(GateShape(dimensions, feature_channels=4, signal_channels=3, width=2, norm="batch"))
    its = AttentionBlock(dimensions, f_int=2, f_g=3, f_l=4)
    generator = torch.Generator().manual_seed(1)
    for unit, block in ((ours.signal, its.W_g), (ours.feature, its.W_x), (ours.attention, its.psi)):
        for mine, other in zip(unit.parameters(), block.parameters(), strict=True):
            value = torch.randn(mine.shape, generator=generator)
            mine.data, other.data = value.reshape(mine.shape).clone(), value.reshape(other.shape).clone()
    feature = torch.randn(2, 4, *(3,) * dimensions, generator=generator)
    signal = torch.randn(2, 3, *(3,) * dimensions, generator=generator)
    torch.testing.assert_close(ours(feature, signal), its(signal, feature))


def test_the_width_between_is_half_or_at_least_32() -> None:
    assert [GATE_WIDTHS["half"](channels) for channels in (1, 32, 256)] == [1, 16, 128]
    assert [GATE_WIDTHS["half_at_least_32"](channels) for channels in (32, 64, 128, 256)] == [32, 32, 64, 128]
