from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from msseg.errors import CheckpointError, MssegError
from msseg.files import content_hash, read_json, write_json
from msseg.folders import FINAL
from msseg.inference.predictor import PredictionOptions
from msseg.inference.speeds import (
    SPEEDS,
    SPEEDS_FILE,
    SPEEDS_VERSION,
    measured_speeds,
    options_for,
    speed_note,
    speed_of,
)

SHARES = {"exact": 1.0, "balanced": 0.3, "fast": 0.1}
DICE = {"exact": 0.8821, "balanced": 0.8814, "fast": 0.875}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a file of weights and a table of what the presets were worth with them."""
    weights = tmp_path / "fold_0" / FINAL
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    rows = {
        name: {
            "options": asdict(SPEEDS[name]),
            "dice": DICE[name],
            "seconds_per_case": 2 * share,
            "seconds_per_megavoxel": 20 * share,
            "share_of_exact": share,
            "cases": 8,
            "device": "cpu",
        }
        for name, share in SHARES.items()
    }
    folds = {"0": {"checkpoint": content_hash(weights)}}
    write_json(tmp_path / SPEEDS_FILE, {"version": SPEEDS_VERSION, "speeds": rows, "folds": folds})
    return tmp_path


def options(speed: str, **changes: object) -> PredictionOptions:
    return options_for(speed, PredictionOptions(**changes))  # type: ignore[arg-type]


def test_exact_is_what_options_are_by_default():
    assert options("exact") == PredictionOptions()
    assert next(iter(SPEEDS)) == "exact"


def test_a_preset_replaces_its_own_options_alone():
    fast = options("fast", noise_repeats=3, guidance=False, step=0.9)
    assert (fast.noise_repeats, fast.guidance) == (3, False)
    assert {name: getattr(fast, name) for name in asdict(SPEEDS["fast"])} == asdict(SPEEDS["fast"])


@pytest.mark.parametrize("name", SPEEDS)
def test_options_are_recognised_as_those_of_their_preset(name):
    assert speed_of(options(name)) == name


def test_options_of_no_preset_have_no_name():
    assert speed_of(PredictionOptions(step=0.123)) is None


def test_an_unknown_preset_is_refused_with_those_that_are_known():
    with pytest.raises(MssegError, match="'fats': unknown; expected one of exact, balanced, fast"):
        options("fats")


def test_a_preset_says_what_it_costs_and_gains(model):
    said = "balanced: 0.30 × the time of exact, Dice 0.881 against 0.882 on 8 validation cases (cpu)."
    assert speed_note(model, options("balanced")) == said


def test_exact_says_what_the_others_would_cost(model):
    assert speed_note(model, options("exact")) == (
        "exact: Dice 0.882; balanced 0.30 × the time at 0.881, fast 0.10 × the time at 0.875, "
        "on 8 validation cases (cpu)."
    )


def test_a_preset_without_measurements_says_how_to_measure(tmp_path):
    assert speed_note(tmp_path, options("fast")) == (
        f"fast: not measured with this model's weights; msseg_speeds {tmp_path} would."
    )
    assert speed_note(tmp_path, options("exact")) == ""


@pytest.mark.parametrize("changes", [{"noise_repeats": 2}, {"guidance": False}])
def test_options_that_were_never_measured_claim_nothing(model, changes):
    assert speed_note(model, options("fast", **changes)) == ""


def test_measurements_of_other_weights_are_not_believed(model):
    (model / "fold_0" / FINAL).write_bytes(b"others")
    assert measured_speeds(model) == {}
    (model / "fold_0" / FINAL).unlink()
    assert measured_speeds(model) == {}


def test_a_preset_that_has_changed_since_is_left_out(model):
    value = read_json(model / SPEEDS_FILE)
    value["speeds"]["fast"]["options"]["step"] = 0.99
    write_json(model / SPEEDS_FILE, value)
    assert list(measured_speeds(model)) == ["exact", "balanced"]


def test_a_table_of_another_version_is_as_none(model):
    write_json(model / SPEEDS_FILE, {"version": 99})
    assert measured_speeds(model) == {}


@pytest.mark.parametrize("value", [[], {"version": SPEEDS_VERSION}, {"version": SPEEDS_VERSION, "folds": 3}])
def test_a_broken_table_is_named(model, value):
    write_json(model / SPEEDS_FILE, value)
    with pytest.raises(CheckpointError, match=r"speeds\.json: not as msseg_speeds writes it"):
        measured_speeds(model)
