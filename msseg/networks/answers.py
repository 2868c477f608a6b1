"""What a network answers at full resolution: its main branch, or the mean of all its branches there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from msseg.networks.grid_network import GridNetwork

Answer = Callable[[torch.Tensor], torch.Tensor]


def mean_answer(network: GridNetwork) -> Answer:
    """Logits (b, k, *spatial) of the mean probability of the network's branches: its accurate mode.

    The main branch's own logits where there is no other of full resolution.
    """
    nodes = network.branches
    if len(nodes) == 1:
        return network.main_output
    return lambda x: logits_of_mean(network.branch_outputs(x, nodes).logits)


def main_answer(network: GridNetwork) -> Answer:
    """Logits (b, k, *spatial) of the branch that predicts first, computing no other: the fast mode."""
    return network.main_output


ANSWERS: dict[str, Callable[[GridNetwork], Answer]] = {"accurate": mean_answer, "fast": main_answer}


def answer(network: GridNetwork, branches: str) -> Answer:
    """The function from an image (b, c, *spatial) to the logits of a mode of `ANSWERS`."""
    return ANSWERS[branches](network)


def logits_of_mean(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """The logarithm of the mean of the softmax of `logits`, each (b, k, *spatial): logits of the mean probability."""
    scores = torch.stack([one.log_softmax(dim=1) for one in logits])
    return scores.logsumexp(dim=0) - math.log(len(logits))
