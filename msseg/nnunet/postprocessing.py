"""nnU-Net's postprocessing.json as our rules. Its postprocessing.pkl, a pickle of functions, is never opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msseg.errors import CheckpointError
from msseg.files import read_json
from msseg.postprocessing.rules import LARGEST_OF_EACH, LARGEST_TOGETHER, Rule

_FUNCTION = "remove_all_but_largest_component_from_segmentation"


def read_postprocessing(path: Path, num_classes: int) -> list[Rule]:
    """The rules in the JSON that nnU-Net's `determine_postprocessing` leaves beside the cross-validation.

    Of equally large components nnU-Net keeps all, ours the first. Raises CheckpointError at a function or label that
    is not nnU-Net's.
    """
    value = read_json(path, CheckpointError)
    functions, arguments = (
        value.get(name) if isinstance(value, dict) else None for name in ("postprocessing_fns", "postprocessing_kwargs")
    )
    if not isinstance(functions, list) or not isinstance(arguments, list) or len(functions) != len(arguments):
        raise CheckpointError(f"{path}: found no functions with their arguments, as nnU-Net writes them. Remove it.")
    before, after = (_dice(value.get(part)) for part in ("input_folder", "postprocessed"))
    return [_rule(path, *pair, num_classes, before, after) for pair in zip(functions, arguments, strict=True)]


def _rule(
    path: Path, function: Any, arguments: Any, num_classes: int, before: dict[int, float], after: dict[int, float]
) -> Rule:
    if function != _FUNCTION or not isinstance(arguments, dict):
        raise CheckpointError(f"{path}: found {function!r}, expected {_FUNCTION}. Remove the file to go without.")
    found = arguments.get("labels_or_regions")
    classes: list[Any] = found if isinstance(found, list) else [found]
    if not classes or not all(type(one) is int and 0 < one < num_classes for one in classes):
        raise CheckpointError(f"{path}: labels: found {found!r}, expected some of 1 to {num_classes - 1}. Remove it.")
    return Rule(
        rule=LARGEST_TOGETHER if isinstance(found, list) else LARGEST_OF_EACH,
        classes=tuple(classes),
        dice_before={one: before[one] for one in classes if one in before},
        dice_after={one: after[one] for one in classes if one in after},
    )


def _dice(value: Any) -> dict[int, float]:
    """The mean Dice of each class in nnU-Net's summary, without those it could not compute."""
    means: Mapping[str, Any] = value.get("mean", {}) if isinstance(value, dict) else {}
    found = {name: one.get("Dice") for name, one in means.items() if isinstance(one, dict)}
    return {int(name): float(dice) for name, dice in found.items() if name.isdecimal() and isinstance(dice, float)}


def find_postprocessing(model_dir: Path, folds: Sequence[str]) -> tuple[Path | None, str | None]:
    """The JSON that was determined on these very folds, or a note on why there is none."""
    name = "crossval_results_folds_" + "_".join(folds)
    path = model_dir / name / "postprocessing.json"
    if path.is_file():
        return path, None
    pickles = sorted(model_dir.glob("crossval_results_folds_*/postprocessing.pkl")) + sorted(model_dir.glob("*.pkl"))
    others = sorted(model_dir.glob("crossval_results_folds_*/postprocessing.json"))
    if not pickles and not others:
        return None, None
    return None, (
        f"nnU-Net's {(others or pickles)[0].relative_to(model_dir)} is left aside (a pickle is not read; a "
        f"postprocessing.json is, where it lies in {name}/). `msseg_train` determines the same rules for its own "
        "models; see docs/from_nnunet.md"
    )
