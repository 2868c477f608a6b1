"""Batch norm over a batch that several processes share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from msseg.losses.whole_batch import whole_batch


class GatheredBatchNorm(_BatchNorm):
    """Batch norm of (b, c, *spatial) over the samples of all processes, for CPUs; its names and weights are PyTorch's.

    A single value a channel has no variance: it takes the running statistics.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        axes, wide = (0, *range(2, x.ndim)), x.float()
        total, values = whole_batch(wide.sum(axes), wide.new_tensor(x.numel() / x.shape[1]))
        count = float(values)
        if count == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        mean = total / count
        centred = wide - _over(mean, x)
        # Of what is centred already: a mean far from 0 costs no digits.
        (squares,) = whole_batch(centred.square().sum(axes))
        self._move_statistics(mean.detach(), squares.detach() / (count - 1))
        scale = torch.rsqrt(squares / count + self.eps) * self.weight
        return torch.addcmul(_over(self.bias, x), centred, _over(scale, x)).to(x.dtype)

    @torch.no_grad()
    def _move_statistics(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1

    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Any number of axes."""


def _over(of_channels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return of_channels.view(1, -1, *(1,) * (x.ndim - 2))


def with_gathered_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, its batch norms over the batch of all processes; weights and their names stay."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            setattr(network, name, _gathered(child))
        else:
            with_gathered_norms(child, device)
    return network


def _gathered(norm: _BatchNorm) -> GatheredBatchNorm:
    gathered = GatheredBatchNorm(norm.num_features, norm.eps, norm.momentum)
    gathered.weight, gathered.bias = norm.weight, norm.bias
    gathered.running_mean, gathered.running_var = norm.running_mean, norm.running_var
    gathered.num_batches_tracked = norm.num_batches_tracked
    return gathered
