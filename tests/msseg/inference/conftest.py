"""A small model without training, that the predictor's tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from msseg.checkpoint import Model
from planning.plan import ChannelPlan, Configuration, Plan


def thresholds(batch: torch.Tensor) -> torch.Tensor:
    """A network of no weights: organ above 0.5, tumour above 1.5."""
    value = batch[:, :1]
    return torch.cat([torch.zeros_like(value), value - 0.5, 2 * (value - 1)], dim=1)


@pytest.fixture
def threshold_model(make_plan: Callable[..., Plan], make_configuration: Callable[..., Configuration]) -> Model:
    configuration = make_configuration()
    plan = make_plan(
        configuration,
        channels=(ChannelPlan("MRI", "nonorm", inside_nonzero_mask=False, lower=0, upper=1, mean=0, std=1),),
        labels={"background": 0, "organ": 3, "tumour": 7},
        class_weights=(1.0, 1.0, 1.0),
    )
    return Model(plan, configuration, [thresholds], folds=("0",))
