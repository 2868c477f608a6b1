from __future__ import annotations

import json

from msseg.training.schedules import Plateau
from msseg.training.state import TrainingState, state_from_json, state_to_json


def through_json(state: TrainingState) -> TrainingState:
    return state_from_json(json.loads(json.dumps(state_to_json(state), allow_nan=False)))


def test_a_fresh_state_survives_json():
    assert through_json(TrainingState()) == TrainingState()


def test_every_float_survives_json_exactly():
    state = TrainingState(
        step=7,
        elapsed_s=1 / 3,
        losses=[0.1, 2 / 3],
        plateau=Plateau(average=0.1 + 0.2, best=0.3, stop_best=1 / 7, scale=0.2**3),
        zero_epochs=(0, 4),
        zero_validations=(1, 0),
        seconds_per_case=0.7,
        finished="epochs",
    )
    assert through_json(state) == state
