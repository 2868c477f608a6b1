"""The folds of a task, made once and kept beside its plan."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msseg.errors import DatasetError
from msseg.files import read_json, write_json
from msseg.folders import Task
from planning.json_fields import record, refuse, sequence, text
from planning.splits import Split, make_splits

ALL = "all"
_DESCRIPTION = "dataset.json"
_LOG = logging.getLogger("msseg")


def ensure_splits(task: Task, case_names: Sequence[str], group_by: str | None = None) -> list[Split]:
    """The folds of these cases: those on disk where they still fit, else new ones, written.

    `group_by` None keeps the grouping that the folds on disk were made with, or else folds or grouping of the data set
    itself.
    """
    path = task.preprocessed / "splits.json"
    stored = _read_splits(path) if path.is_file() else None
    if stored is not None:
        group_by = group_by if group_by is not None else stored.group_by
        if stored.cases == tuple(sorted(case_names)) and stored.group_by == group_by:
            return list(stored.folds)
        trained = "; folds trained before were of other cases" if any(task.models.glob("*/fold_*")) else ""
        _LOG.warning("%s: made anew for %d cases%s.", path, len(case_names), trained)
    splits, group_by = splits_of(task.raw, case_names, group_by, is_grouped=stored is None)
    folds = [{"train": list(s.train), "validation": list(s.validation), "note": s.note} for s in splits]
    write_json(path, {"group_by": group_by, "cases": sorted(case_names), "folds": folds})
    for note in sorted({split.note for split in splits if split.note}):
        _LOG.warning("splits: %s.", note)
    return splits


def splits_of(
    folder: Path, case_names: Sequence[str], group_by: str | None = None, is_grouped: bool = True
) -> tuple[list[Split], str | None]:
    """Folds made anew for the cases of a data set's folder, and the pattern of the groups that were kept together.

    Without a `group_by` they are the data set's own, see `declared_folds`, or, where it `is_grouped`, go by the groups
    that it declares (`declared_grouping`).
    """
    declared = declared_folds(folder, case_names) if group_by is None else None
    if declared is not None:
        return declared, None
    group_by = declared_grouping(folder) if group_by is None and is_grouped else group_by
    return make_splits(case_names, groups=None if group_by is None else groups_of(case_names, group_by)), group_by


def declared_grouping(folder: Path) -> str | None:
    """The entry `group_by` of a data set's dataset.json, where there is one: the patient in the names of its cases.

    Raises DatasetError for one that is no text.
    """
    pattern = _entry(folder, "group_by")
    if pattern is not None and not isinstance(pattern, str):
        raise DatasetError(
            f"{folder / _DESCRIPTION}: group_by {pattern!r}; expected a regular expression. Mend dataset.json."
        )
    return pattern


def declared_folds(folder: Path, case_names: Sequence[str]) -> list[Split] | None:
    """The folds that a data set's dataset.json declares by its entry `folds`, None without one.

    The entry lists for each fold the names of the cases that it leaves out; names that are no cases are passed over,
    and so is a fold without any. Raises DatasetError where a case is in no fold or in two, or all are in one.
    """
    entry, path = _entry(folder, "folds"), folder / _DESCRIPTION
    if entry is None:
        return None
    left_out = [sorted({*names} & {*case_names}) for names in sequence(_names)(entry, f"{path}.folds")]
    left_out = [names for names in left_out if names]
    listed = [name for names in left_out for name in names]
    wrong = sorted({*case_names} - {*listed}) or sorted({name for name in listed if listed.count(name) > 1})
    if wrong or len(left_out) < 2:
        found = f"{wrong[0]} in {'two folds' if wrong[0] in listed else 'no fold'}" if wrong else "fewer than two folds"
        raise DatasetError(f"{path}: folds with {found}; expected each case in one of them. Mend or delete the entry.")
    return [Split(tuple(sorted({*listed} - {*names})), tuple(names)) for names in left_out]


def _entry(folder: Path, name: str) -> Any:
    path = folder / _DESCRIPTION
    description = read_json(path, DatasetError) if path.is_file() else {}
    return description.get(name) if isinstance(description, dict) else None


@dataclass(frozen=True)
class _StoredSplits:
    group_by: str | None
    cases: tuple[str, ...]
    folds: tuple[Split, ...]


def _text_or_nothing(value: Any, place: str) -> Any:
    return text(value, place) if value else value


_names = sequence(text)
_read_fold = record(Split, {"train": _names, "validation": _names, "note": _text_or_nothing})
_read_stored = record(_StoredSplits, {"group_by": _text_or_nothing, "cases": _names, "folds": sequence(_read_fold)})


def _read_splits(path: Path) -> _StoredSplits:
    """The folds on disk, as written or edited by hand; PlanError where they are malformed or name unknown cases."""
    stored = _read_stored(read_json(path, DatasetError), str(path))
    if not stored.folds:
        raise refuse(f"{path}.folds", [], "at least one fold")
    for index, fold in enumerate(stored.folds):
        unknown = sorted({*fold.train, *fold.validation} - set(stored.cases))
        if unknown or not fold.train:
            raise refuse(f"{path}.folds[{index}]", unknown or fold.train, "names of cases, some to train on")
    return stored


def groups_of(case_names: Sequence[str], pattern: str) -> dict[str, str]:
    """Case name → group: the first group of the pattern's match in the name, or the whole match.

    Raises DatasetError for a malformed pattern or a name in which it is not found.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as problem:
        raise DatasetError(f"--group-by {pattern}: not a regular expression ({problem}).") from None
    found = {name: compiled.search(name) for name in case_names}
    lacking = sorted(name for name, match in found.items() if match is None)
    if lacking:
        raise DatasetError(
            f"--group-by {pattern}: not found in {len(lacking)} case names ({', '.join(lacking[:3])}, …). "
            "Give a pattern that matches in every name."
        )
    return {name: match.group(1 if compiled.groups else 0) for name, match in found.items() if match is not None}


def split_of(splits: Sequence[Split], fold: str) -> Split:
    """The split that FOLD means: `all` trains on every case and validates on none.

    Raises DatasetError for a fold that does not exist.
    """
    if fold == ALL:
        return Split(tuple(sorted({*splits[0].train, *splits[0].validation})), ())
    known = {str(index): split for index, split in enumerate(splits)}
    if fold not in known:
        raise DatasetError(f"FOLD {fold}: no such fold; expected one of {', '.join(known)}, {ALL}.")
    return known[fold]
