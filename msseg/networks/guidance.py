"""Classification-guided modules: what decides, from a node's features, which classes are in the image at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from msseg.networks.operators import OPERATORS

_DROPOUT = 0.5
_ANSWERS = 2  # absent, present


@dataclass(frozen=True)
class GuideShape:
    """Where a guide stands: channels in, foreground classes out, and whether on the decoder's two deepest levels."""

    dimensions: int
    in_channels: int
    num_foreground: int
    is_deep: bool


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of vectors (b, c), which in training takes its running statistics for a batch of one.

    A single vector has no variance; PyTorch's batch norm raises there.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class BranchGuide(nn.Module):
    """Presence logits (b, foreground classes, 2) from the mean and the largest value of channels (b, c, *spatial).

    UNet#'s modules: one linear layer (CGM-B), or two with half as many hidden units as channels where `is_deep`
    (CGM-A), each after batch norm and dropout. Its paper has ReLU before the softmax too, which would forbid the logits
    to be negative and is left out. Source: Qian et al., UNet# (2022).
    """

    def __init__(self, shape: GuideShape):
        super().__init__()
        channels, answers = _ANSWERS * shape.in_channels, _ANSWERS * shape.num_foreground
        hidden = max(1, shape.in_channels // 2)
        layers = [*_layer(channels, hidden), nn.ReLU(), *_layer(hidden, answers)] if shape.is_deep else None
        self.layers = nn.Sequential(*(layers or _layer(channels, answers)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        axes = tuple(range(2, features.ndim))
        pooled = torch.cat((features.mean(axes), features.amax(axes)), dim=1)  # (b, 2c)
        result: torch.Tensor = self.layers(pooled)
        return result.unflatten(1, (-1, _ANSWERS))


class BottleneckGuide(nn.Module):
    """Presence logits (b, foreground classes, 2) from features (b, c, *spatial): the largest of a 1-convolution's.

    UNet 3+'s module, after dropout. Source: Huang et al. (2020).
    """

    def __init__(self, shape: GuideShape):
        super().__init__()
        operators = OPERATORS[shape.dimensions]
        self.dropout = nn.Dropout(_DROPOUT)
        self.convolution = operators.convolution(shape.in_channels, _ANSWERS * shape.num_foreground, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.convolution(self.dropout(features))
        return answers.amax(tuple(range(2, answers.ndim))).unflatten(1, (-1, _ANSWERS))


def _layer(in_features: int, out_features: int) -> list[nn.Module]:
    return [BatchNorm(in_features), nn.Dropout(_DROPOUT), nn.Linear(in_features, out_features)]


GUIDES: dict[str, Callable[[GuideShape], nn.Module]] = {"branches": BranchGuide, "bottleneck": BottleneckGuide}
