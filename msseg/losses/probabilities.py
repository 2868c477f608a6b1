"""Log-probabilities of classes, and of one class against the rest, in single precision or better."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
from torch.nn import functional as F


class OneVersusRest(NamedTuple):
    """A foreground class: where it is (b, *spatial) bool, log p and log (1 - p) there, all of one shape."""

    here: torch.Tensor
    log_p: torch.Tensor
    log_rest: torch.Tensor

    def of_truth(self) -> torch.Tensor:
        """log p of what is so: of the class where it is, of the rest elsewhere."""
        return torch.where(self.here, self.log_p, self.log_rest)

    def of_error(self) -> torch.Tensor:
        """log p of what is not so."""
        return torch.where(self.here, self.log_rest, self.log_p)


def full_precision(logits: torch.Tensor) -> torch.Tensor:
    """The logits in float32; float64 stays as it is."""
    return logits if logits.dtype == torch.float64 else logits.float()


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (b, k, *spatial) of logits (b, k, *spatial); of a single logit, those of absent and present."""
    logits = full_precision(logits)
    if logits.shape[1] > 1:
        return logits.log_softmax(dim=1)
    return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)


def one_versus_rest(log_p: torch.Tensor, target: torch.Tensor) -> Iterator[OneVersusRest]:
    """Each foreground class against all others, from log-probabilities (b, k, *spatial) and target (b, *spatial).

    log (1 - p) is the logarithm of the others' sum, so that it is exact where p is near 1 too; with two classes it is
    the background's.
    """
    planes = log_p.unbind(1)
    for index, rest in enumerate(_logarithms_of_rest(planes), start=1):
        yield OneVersusRest(target == index, planes[index], rest)


def _logarithms_of_rest(planes: tuple[torch.Tensor, ...]) -> Iterator[torch.Tensor]:
    below = list(accumulate(planes[:-1], torch.logaddexp))
    above = list(accumulate(planes[:1:-1], torch.logaddexp))[::-1]
    for index in range(1, len(planes)):
        last = index == len(planes) - 1
        yield below[index - 1] if last else torch.logaddexp(below[index - 1], above[index - 1])
