from __future__ import annotations

import json

import pytest

from msseg.errors import CheckpointError
from msseg.instances.decision import Decision, decision_from_json, decision_to_json


@pytest.mark.parametrize("decision", [Decision(), Decision(0.4, 0.65, 30, "dsb2018", 0.71)])
def test_a_decision_survives_the_way_through_json(decision: Decision):
    written = json.loads(json.dumps(decision_to_json(decision)))
    assert next(iter(written)) == "version"
    assert decision_from_json(written, "decision.json") == decision


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version"),
        ({"foreground": "half"}, "foreground"),
        ({"foreground": 1.0}, "foreground=1.0"),
        ({"seed": -0.1}, "seed=-0.1"),
        ({"smallest_px": -1}, "smallest_px"),
        ({"smallest_px": 2.5}, "smallest_px"),
        ({"metric": None}, "metric"),
        ({"value": float("inf")}, "value"),
        ({"threshold": 0.5}, "threshold"),
    ],
)
def test_a_malformed_decision_is_refused_with_its_file_and_field(change: dict, message: str):
    with pytest.raises(CheckpointError, match=f"decision.json.*{message}"):
        decision_from_json({**decision_to_json(Decision()), **change}, "decision.json")


def test_a_list_is_no_decision():
    with pytest.raises(CheckpointError, match=r"decision\.json"):
        decision_from_json([0.5], "decision.json")
