"""A tiny task: six volumes in which class 1 is bright and class 2 is very bright, and a network of two levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from msseg.data.store import write_case
from msseg.interrupts import StopRequest
from msseg.training import loop
from msseg.training.job import TrainingJob
from msseg.training.recipes import Recipe
from planning.plan import Configuration, Plan
from planning.splits import Split

SHAPE = (10, 12, 11)
NAMES = tuple(f"case_{number}" for number in range(6))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Arrays this small are slower on several threads, and very much so where other work takes the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures() -> None:
    """Asked for by a test that looks at the curves' picture."""


@pytest.fixture(autouse=True)
def no_other_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes as long as a training of a few steps."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(loop, "draw_curves", lambda _folder: None)


@pytest.fixture(scope="session")
def write_store() -> Callable[[Path], Path]:
    """Writes the six volumes into a folder; the folder."""

    def write(folder: Path) -> Path:
        generator = np.random.default_rng(0)
        for name in NAMES:
            label = np.zeros(SHAPE, np.uint8)
            label[2:6, 3:8, 3:8] = 1
            label[6:9, 4:8, 4:8] = 2
            image = (label + 0.2 * generator.standard_normal(SHAPE)).astype(np.float32)[None]
            locations = {index: np.argwhere(label == index) for index in (1, 2)}
            write_case(folder, name, image, label, locations, {}, key="k")
        return folder

    return write


@pytest.fixture
def store(write_store: Callable[[Path], Path], tmp_path: Path) -> Path:
    return write_store(tmp_path / "store")


class _StopAfter(StopRequest):
    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks <= 0


@pytest.fixture
def stop_after() -> Callable[[int], StopRequest]:
    """Makes what asks to stop when looked at for the so-many-th time."""
    return _StopAfter


@pytest.fixture
def plan(make_plan: Callable[..., Plan], make_configuration: Callable[..., Configuration]) -> Plan:
    configuration = make_configuration(
        median_shape=SHAPE,
        features=(4, 8, 8),
        strides=((2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3), (3, 3, 3), (3, 3, 3)),
        encoder_convolutions=(1, 1, 1),
        decoder_convolutions=(1, 1),
        supervision_weights=(0.6, 0.4),
        batch_dice=True,
    )
    labels = {"background": 0, "bright": 1, "brighter": 2}
    return make_plan(configuration, labels=labels, class_weights=(0.2, 0.4, 0.4))


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="tiny",
        optimiser="adamw",
        learning_rate=1e-2,
        weight_decay=1e-2,
        schedule="cosine",
        warmup=0.1,
        loss="dice_ce",
        augmentation="budget",
        average_decay=0.9,
        epochs=3,
        steps_per_epoch=4,
        validation_batches=1,
        whole_volume_every=2,
    )


@pytest.fixture
def make_job(store: Path, plan: Plan, recipe: Recipe, tmp_path: Path) -> Callable[..., TrainingJob]:
    """A job on the tiny task, without workers; keyword arguments replace its fields."""

    def make(**changes: object) -> TrainingJob:
        values: dict[str, object] = {
            "store": store,
            "plan": plan,
            "configuration_name": "3d",
            "split": Split(NAMES[:4], NAMES[4:]),
            "fold": "0",
            "recipe": recipe,
            "folder": tmp_path / "fold_0",
            "device": torch.device("cpu"),
            "workers": 0,
        }
        return TrainingJob(**{**values, **changes})  # type: ignore[arg-type]

    return make
