from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from planning.costs.training import TrainingWork


@pytest.fixture
def training_work() -> Callable[..., TrainingWork]:
    """Makes the work of a training of a configuration; keyword arguments replace its fields."""

    def make(configuration, **changes):
        work = TrainingWork(
            configuration=configuration,
            patch_size=configuration.patch_size,
            in_channels=1,
            num_classes=2,
            optimiser="sgd",
            augmentation="none",
            averages=False,
            steps_per_epoch=10,
            validation_batches=0,
            epochs=2,
            budget_s=None,
            batch_workers=0,
            device="cpu",
        )
        return replace(work, **changes)

    return make
