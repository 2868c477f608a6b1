from __future__ import annotations

import pytest
import torch
from torch import nn

from msseg.training.muon import Muon, orthogonalised
from msseg.training.optimisers import build_optimiser, load_optimiser_tensors, optimiser_tensors


class Small(nn.Module):
    """A kernel inside, a head, and norms: one parameter for each way to step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside = nn.Conv2d(8, 16, 3)
        self.norm = nn.GroupNorm(4, 16)
        self.heads = nn.ModuleDict({"main": nn.Conv2d(16, 12, 1)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads["main"](self.norm(self.inside(x)).relu())


def gradients(network: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    network.zero_grad()
    network(torch.randn(2, 8, 5, 5, generator=generator)).square().mean().backward()


@pytest.mark.parametrize("shape", [(16, 72), (72, 16), (24, 24)])
def test_singular_values_come_to_about_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    turned = orthogonalised(matrix) / max(1.0, shape[0] / shape[1]) ** 0.5
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(turned.flatten(), (left @ right).flatten(), dim=0) > 0.95


def test_iterating_on_the_gram_matrix_is_iterating_on_the_matrix():
    matrix = torch.randn(12, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = matrix / matrix.norm()
    for _ in range(5):
        gram = expected @ expected.T
        expected = 3.4445 * expected - 4.7750 * gram @ expected + 2.0315 * gram @ gram @ expected
    torch.testing.assert_close(orthogonalised(matrix.float()), expected.float(), rtol=1e-4, atol=1e-5)


def test_the_size_of_a_gradient_does_not_count():
    matrix = torch.randn(8, 30, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonalised(matrix), orthogonalised(1000 * matrix), rtol=1e-4, atol=1e-4)


def test_a_gradient_of_zeros_moves_nothing():
    assert orthogonalised(torch.zeros(8, 30)).abs().max() == 0


def test_a_kernel_steps_by_the_rate_along_the_orthogonal_direction():
    network = Small()
    optimiser = Muon(network.named_parameters(), lr=0.01, weight_decay=0.1, momentum=0.9, kernel_rate=5.0)
    before = network.inside.weight.detach().clone()
    gradients(network)
    direction = orthogonalised((network.inside.weight.grad * (1 - 0.9 * 0.9)).flatten(1)).view_as(before)
    optimiser.step()
    expected = before * (1 - 0.05 * 0.1) - 0.05 * direction
    torch.testing.assert_close(network.inside.weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_heads_norms_and_biases_take_adamw():
    network, other = Small(), Small()
    for each in (network, other):
        each.inside.weight.requires_grad_(False)
    ours = Muon(network.named_parameters(), lr=0.01, weight_decay=0.1)
    decayed = [other.heads["main"].weight]
    rest = [p for p in other.parameters() if p.requires_grad and p is not decayed[0]]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    for step in range(3):
        gradients(network, step)
        gradients(other, step)
        ours.step()
        reference.step()
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_the_state_put_back_goes_on_bit_for_bit():
    network, other = Small(), Small()
    optimiser, again = (build_optimiser("muon", each, 0.01, 1e-2, {}) for each in (network, other))
    gradients(network)
    optimiser.step()
    other.load_state_dict(network.state_dict())
    load_optimiser_tensors(again, {key: value.clone() for key, value in optimiser_tensors(optimiser).items()})
    for net, each in ((network, optimiser), (other, again)):
        gradients(net, 5)
        each.step()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_what_a_closure_computes_is_handed_back():
    network = Small()
    optimiser = Muon(network.named_parameters(), lr=0.01)

    def closure() -> float:
        gradients(network)
        return 7.0

    assert optimiser.step(closure) == 7.0
