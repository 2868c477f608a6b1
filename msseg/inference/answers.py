"""What is asked of a network at inference: which branches answer, how they are joined, and what guidance rules out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

Network = Callable[[torch.Tensor], "torch.Tensor | Sequence[torch.Tensor]"]
Join = Callable[[Sequence[torch.Tensor]], torch.Tensor]

_SEEN_FROM = 0.5
# The score of a class that is ruled out: below any other, yet finite, so that it can be interpolated.
_RULED_OUT = -1e30

# The branches that answer, by mode, of those of full resolution, the main one first.
BRANCHES: dict[str, slice] = {"accurate": slice(None), "fast": slice(1)}


class Answer(NamedTuple):
    """Logits (b, k, *spatial), and probabilities of presence (b, k - 1) of the foreground classes, where guided."""

    logits: torch.Tensor
    presence: torch.Tensor | None = None

    def __add__(self, other: Answer) -> Answer:  # type: ignore[override]
        """The sums, as of the answers of several networks."""
        known = [presence for presence in (self.presence, other.presence) if presence is not None]
        return Answer(self.logits + other.logits, functools.reduce(torch.add, known) if known else None)


def together(answers: Sequence[Answer]) -> Answer:
    """The answers to the parts of a batch as one."""
    presence = [answer.presence for answer in answers if answer.presence is not None]
    return Answer(torch.cat([answer.logits for answer in answers]), torch.cat(presence) if presence else None)


def answering(
    network: Network, branches: str = "accurate", guidance: bool = True, regions: bool = False
) -> Callable[[torch.Tensor], Answer]:
    """The function of a batch that gives a network's answer in float32, computing no more than that needs.

    "accurate" joins all branches of full resolution (`log_mean_probability`; scores of `regions` by
    `log_odds_of_mean`), "fast" takes the main one; they are the same where a network has but one. Without `guidance`
    presence is not asked for. ValueError at another mode.
    """
    if branches not in BRANCHES:
        raise ValueError(f"branches: found {branches!r}, expected one of {', '.join(BRANCHES)}.")
    nodes = tuple(getattr(network, "branches", ()))[BRANCHES[branches]]
    if len(nodes) > 1 or (guidance and is_guided(network)):
        return functools.partial(_branch_answer, network, nodes, _JOINED[regions])
    main = main_output(network)
    return lambda batch: Answer(main(batch).float())


def is_guided(network: Network) -> bool:
    """Whether the network decides which classes are present."""
    return len(getattr(network, "guides", ())) > 0


def main_output(network: Network) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that gives a network's full-resolution logits, computing no other head where the network can."""
    own = getattr(network, "main_output", None)
    if own is not None:
        return own

    def first_output(batch: torch.Tensor) -> torch.Tensor:
        outputs = network(batch)
        return outputs if isinstance(outputs, torch.Tensor) else outputs[0]

    return first_output


def log_mean_probability(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits (b, k, *spatial) of the mean of the branches' softmax probabilities; of a single branch its own.

    Mean in probability, not in logits: a branch that is sure does not outvote the others. Finite where the logits are.
    """
    if len(logits) == 1:
        return logits[0].float()
    each = (branch.float().log_softmax(dim=1) for branch in logits)
    return functools.reduce(torch.logaddexp, each) - math.log(len(logits))


def log_odds_of_mean(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits (b, k, *spatial) of the mean of the branches' sigmoid probabilities; of a single branch its own.

    As `log_mean_probability`, each of the k for itself: ln(Σ p / Σ (1 - p)). Finite where the logits are.
    """
    if len(logits) == 1:
        return logits[0].float()
    inside = functools.reduce(torch.logaddexp, (functional.logsigmoid(branch.float()) for branch in logits))
    outside = functools.reduce(torch.logaddexp, (functional.logsigmoid(-branch.float()) for branch in logits))
    return inside - outside


# How branches are joined, by whether they score regions.
_JOINED = {False: log_mean_probability, True: log_odds_of_mean}


def mean_presence(presence: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean over the guided nodes of the probability of presence (b, k - 1), from logits (b, k - 1, 2) of each."""
    return torch.stack([logits.float().softmax(dim=-1)[..., 1] for logits in presence]).mean(dim=0)


def seen(presence: torch.Tensor) -> torch.Tensor:
    """Whether a tile sees each class (k - 1), from mean probabilities of presence (tiles, k - 1): ½ or more is seen."""
    return (presence >= _SEEN_FROM).any(dim=0)


def rule_out(scores: torch.Tensor, seen_classes: torch.Tensor) -> None:
    """Give to the background, in place, what is scored (k, *spatial) for foreground classes that are not seen (k - 1).

    A voxel that such a class would win becomes background, every other keeps its class.
    """
    for index, is_seen in enumerate(seen_classes.tolist(), start=1):
        if not is_seen:
            torch.maximum(scores[0], scores[index], out=scores[0])
            scores[index] = _RULED_OUT


def _branch_answer(network: Network, nodes: Sequence[object], join: Join, batch: torch.Tensor) -> Answer:
    outputs = network.branch_outputs(batch, nodes)  # type: ignore[attr-defined]
    presence = mean_presence(outputs.presence) if outputs.presence else None
    return Answer(join(outputs.logits), presence)
