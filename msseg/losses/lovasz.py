"""Lovász extensions of the Jaccard loss: the hinge for two classes, on softmax for more.

Source: Berman et al., The Lovász-Softmax loss (2018), section 2 and algorithm 1.
"""

from __future__ import annotations

import torch

from msseg.losses.whole_batch import batch_mean

_LAST = -1.0  # below every error that counts, so that the ignored come last in order and are cut off


def lovasz_loss(log_probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The Lovász hinge where there are two classes, else the Lovász-softmax loss; per image, then the mean, >= 0.

    `log_probabilities` (b, k, *spatial), `target` (b, *spatial) int64, -1 = ignore.
    """
    extension = lovasz_hinge if log_probabilities.shape[1] == 2 else lovasz_softmax
    return batch_mean(extension(log_probabilities.flatten(2), target.flatten(1)))


def lovasz_hinge(log_probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Lovász hinge of each image (b,), errors 1 - s z with s = ±1 and the logit z = log p - log (1 - p).

    `log_probabilities` (b, 2, n), `target` (b, n).
    """
    logit = log_probabilities[:, 1] - log_probabilities[:, 0]
    here = target == 1
    errors = 1 - torch.where(here, logit, -logit)
    return jaccard_extension(errors.masked_fill(target < 0, _LAST), here)


def lovasz_softmax(log_probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Lovász-softmax of each image (b,), errors |y - p|, averaged over the classes that the image has; 0 without any.

    `log_probabilities` (b, k, n), `target` (b, n).
    """
    losses, present = [], []
    for index, plane in enumerate(log_probabilities.exp().unbind(1)):
        here = target == index
        errors = torch.where(here, 1 - plane, plane)
        losses.append(jaccard_extension(errors.masked_fill(target < 0, _LAST), here))
        present.append(here.any(dim=1))
    weights = torch.stack(present).to(losses[0].dtype)
    return (torch.stack(losses) * weights).sum(dim=0) / weights.sum(dim=0).clamp(min=1)


def jaccard_extension(errors: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """Σ relu(m) g of each row (b,), m the errors (b, n) and g the growth of the Jaccard loss in their falling order.

    `here` (b, n) bool: which elements belong to the class. Elements of negative error add nothing.
    """
    return (errors.relu() * _jaccard_growth(errors.detach(), here)).sum(dim=1)


@torch.no_grad()
def _jaccard_growth(errors: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """How much the Jaccard loss grows as each element joins the wrong ones, the largest error first, (b, n).

    In closed form: an element of the class takes 1 from the intersection i of a union u, one of the rest adds 1 to u.
    The difference of two losses near 1 would lose most of its digits in a large image.
    """
    order = errors.argsort(dim=1, descending=True)
    members = here.gather(1, order)
    size = here.sum(dim=1, keepdim=True)
    found = members.cumsum(dim=1, dtype=torch.int32)
    strangers = torch.arange(1, errors.shape[1] + 1, device=errors.device) - found
    union = (size + strangers).to(errors.dtype)
    growth = torch.where(members, 1 / union, (size - found) / (union * (union - 1).clamp(min=1)))
    growth[:, :1] += size == 0  # a class that is nowhere: the first wrong element is the whole loss
    return torch.empty_like(growth).scatter_(1, order, growth)
