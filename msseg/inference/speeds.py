"""Presets of speed: what each replaces in the options of a prediction, and what it was measured to cost and to gain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msseg.errors import CheckpointError, MssegError
from msseg.files import content_hash, read_json
from msseg.folders import FINAL
from msseg.inference.mirrors import HALF, Mirror

if TYPE_CHECKING:  # it would load torch, and the command line shows the presets without
    from msseg.inference.predictor import PredictionOptions

# What was measured: in a fold's folder on its validation cases, in the model's folder over all its folds.
SPEEDS_FILE = "speeds.json"
SPEEDS_VERSION = 1
EXACT = "exact"


@dataclass(frozen=True)
class Speed:
    """What a preset replaces in `PredictionOptions`."""

    mirror: Mirror
    step: float
    branches: str


# Chosen by the measurements in docs/prediction.md: most time for least Dice.
SPEEDS = {
    EXACT: Speed(mirror=True, step=0.5, branches="accurate"),
    "balanced": Speed(mirror=HALF, step=0.5, branches="accurate"),
    "fast": Speed(mirror=False, step=0.75, branches="fast"),
}


@dataclass(frozen=True)
class MeasuredSpeed:
    """What a preset was worth on validation cases: mean foreground Dice (None where no case has any) and time.

    `share_of_exact` is its time over that of the preset `exact` on the same cases.
    """

    dice: float | None
    seconds_per_case: float
    seconds_per_megavoxel: float
    share_of_exact: float
    cases: int
    device: str


def speed_named(name: str) -> Speed:
    """The preset called `name`; MssegError lists the known ones."""
    if name not in SPEEDS:
        raise MssegError(f"speed {name!r}: unknown; expected one of {', '.join(SPEEDS)}.")
    return SPEEDS[name]


def options_for(speed: str, options: PredictionOptions) -> PredictionOptions:
    """The options with what the preset replaces; MssegError for an unknown one."""
    return replace(options, **asdict(speed_named(speed)))


def speed_of(options: PredictionOptions) -> str | None:
    """The preset that the options' views, step and branches are those of; None where they are of none."""
    return next((name for name in SPEEDS if options_for(name, options) == options), None)


def measured_speeds(model_dir: Path) -> dict[str, MeasuredSpeed]:
    """What the presets were measured to be worth with the weights that the model has now; empty where they were not.

    Presets that have changed since they were measured are left out. Raises CheckpointError for a broken file.
    """
    path = Path(model_dir) / SPEEDS_FILE
    if not path.is_file():
        return {}
    value = read_json(path, CheckpointError)
    try:
        if value["version"] != SPEEDS_VERSION or not all(map(_is_of_weights, _checkpoints(path.parent, value))):
            return {}
        return {name: _measured(row) for name, row in value["speeds"].items() if _is_unchanged(name, row)}
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: not as msseg_speeds writes it. Delete it, and measure again.") from None


def speed_note(model_dir: Path, options: PredictionOptions) -> str:
    """One line on what the options' preset costs and gains on this model; empty where there is nothing to say.

    Options of no preset are never measured; that `exact` was not measured nobody needs to hear.
    """
    name = speed_of(options)
    if name is None or options.noise_repeats or not options.guidance:
        return ""
    measured = measured_speeds(model_dir)
    if name not in measured or EXACT not in measured:
        unknown = f"{name}: not measured with this model's weights; msseg_speeds {model_dir} would."
        return "" if name == EXACT else unknown
    return _exact_note(measured) if name == EXACT else _note(name, measured)


def _note(name: str, measured: Mapping[str, MeasuredSpeed]) -> str:
    one, exact = measured[name], measured[EXACT]
    return (
        f"{name}: {one.share_of_exact:.2f} × the time of exact, Dice {shown_dice(one.dice)} against "
        f"{shown_dice(exact.dice)} on {_cases(one)}."
    )


def _exact_note(measured: Mapping[str, MeasuredSpeed]) -> str:
    exact = measured[EXACT]
    others = [
        f"{name} {one.share_of_exact:.2f} × the time at {shown_dice(one.dice)}"
        for name, one in measured.items()
        if name != EXACT
    ]
    said = "; ".join([f"Dice {shown_dice(exact.dice)}", ", ".join(others)] if others else [shown_dice(exact.dice)])
    return f"exact: {said}, on {_cases(exact)}."


def shown_dice(dice: float | None) -> str:
    """Three digits, or a dash where there was nothing to measure."""
    return "–" if dice is None else f"{dice:.3f}"


def _cases(one: MeasuredSpeed) -> str:
    return f"{one.cases} validation case{'s' if one.cases != 1 else ''} ({one.device})"


def _checkpoints(model_dir: Path, value: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """The checkpoint of each fold that was measured, and the hash that it had."""
    return [(model_dir / f"fold_{name}" / FINAL, fold["checkpoint"]) for name, fold in value["folds"].items()]


def _is_of_weights(checkpoint: tuple[Path, str]) -> bool:
    path, was = checkpoint
    return path.is_file() and content_hash(path) == was


def _is_unchanged(name: str, row: Mapping[str, Any]) -> bool:
    return name in SPEEDS and row["options"] == asdict(SPEEDS[name])


def _measured(row: Mapping[str, Any]) -> MeasuredSpeed:
    return MeasuredSpeed(**{key: value for key, value in row.items() if key != "options"})
