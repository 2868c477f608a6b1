"""A small model without training, that the predictor's tests share."""

from __future__ import annotations

import pytest
import torch

from msseg.checkpoint import Model
from planning.plan import ChannelPlan, Configuration, Plan


def small_configuration(patch: tuple[int, ...] = (8, 8, 8), spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)):
    dimensions = len(patch)
    return Configuration(
        name="3d" if dimensions == 3 else "2d",
        dimensions=dimensions,
        spacing_mm=spacing_mm,
        median_shape=patch,
        patch_size=patch,
        batch_size=2,
        network="plain_unet",
        features=(4, 8),
        strides=((2,) * dimensions,),
        kernel_sizes=((3,) * dimensions,) * 2,
        convolutions_per_level=2,
        supervision_weights=(1.0,),
        batch_dice=False,
        dummy_2d=False,
        image_order=3,
        label_order=1,
        score_order=1,
        mirror_axes=tuple(range(dimensions)),
    )


def small_plan(configuration: Configuration, axis_order: tuple[int, ...] = (0, 1, 2)) -> Plan:
    channel = ChannelPlan("MRI", "nonorm", inside_nonzero_mask=False, lower=0, upper=1, mean=0, std=1)
    return Plan(
        dataset_name="small",
        channels=(channel,),
        labels={"background": 0, "organ": 3, "tumour": 7},
        axis_order=axis_order,
        class_weights=(1.0, 1.0, 1.0),
        configurations={configuration.name: configuration},
        default_configuration=configuration.name,
        memory_bytes=8 * 10**9,
    )


def thresholds(batch: torch.Tensor) -> torch.Tensor:
    """A network of no weights: organ above 0.5, tumour above 1.5."""
    value = batch[:, :1]
    return torch.cat([torch.zeros_like(value), value - 0.5, 2 * (value - 1)], dim=1)


@pytest.fixture
def threshold_model() -> Model:
    configuration = small_configuration()
    return Model(small_plan(configuration), configuration, [thresholds], folds=("0",))
