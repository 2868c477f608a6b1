"""The labels to evaluate where nobody named them: from the data set's description, else from the references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.ignored import IGNORE_NAME, without_ignored
from msseg.data.image import read_label
from msseg.errors import DatasetError
from msseg.evaluation.case import LabelValues, members_of
from msseg.evaluation.pairs import MASKS
from msseg.files import read_json


def labels_beside(reference_folder: Path) -> dict[str, LabelValues] | None:
    """The foreground labels of the `dataset.json` in the folder or its parent; None where neither has one.

    Without the ignore label, which is none.
    """
    beside = _description_beside(reference_folder)
    return None if beside is None else _foreground_labels(*beside)


def ignored_beside(reference_folder: Path) -> int | None:
    """The value of voxels that nobody annotated, by the same `dataset.json`; None where there is no such label."""
    description, path = _description_beside(reference_folder) or (None, Path())
    return without_ignored(path, description.get("labels"))[1] if isinstance(description, Mapping) else None


def split_ignored(labels: Mapping[str, LabelValues]) -> tuple[dict[str, LabelValues], int | None]:
    """The labels without the one named "ignore" (in any case), and its value.

    Raises DatasetError where several have the name, or it has several values.
    """
    ignored = {name: members_of(values) for name, values in labels.items() if name.lower() == IGNORE_NAME}
    if len(ignored) > 1 or any(len(values) != 1 for values in ignored.values()):
        raise DatasetError(f"labels: found {ignored}, expected at most one label named {IGNORE_NAME}, of one value.")
    kept = {name: values for name, values in labels.items() if name not in ignored}
    return kept, next((value for (value,) in ignored.values()), None)


def has_instances_beside(reference_folder: Path) -> bool:
    """Whether the references number objects.

    The `dataset.json` in the folder or its parent says so (`"instances": true`); where neither has one, the folder's
    name does (`instances`), or that it holds a folder of masks for each case.
    """
    beside = _description_beside(reference_folder)
    if beside is not None:
        return isinstance(beside[0], Mapping) and beside[0].get("instances") is True
    folder = Path(reference_folder).resolve()
    return folder.name == "instances" or any(path.is_dir() for path in folder.glob(f"*/{MASKS}"))


def labels_found(references: Iterable[Path]) -> dict[str, LabelValues]:
    """A label for each value other than 0 that the reference files hold, named after its value."""
    values: set[int] = set()
    for path in references:
        values.update(np.unique(read_label(path)[0]).tolist())
    return {str(value): int(value) for value in sorted(values - {0})}


def _description_beside(reference_folder: Path) -> tuple[Any, Path] | None:
    """The value and the path of the `dataset.json` in the folder or its parent; None where neither has one."""
    folder = Path(reference_folder).resolve()
    path = next((path for path in (folder / "dataset.json", folder.parent / "dataset.json") if path.is_file()), None)
    return None if path is None else (read_json(path, DatasetError), path)


def _foreground_labels(description: Any, path: Path) -> dict[str, LabelValues]:
    """`labels` in the Decathlon's direction (value: name) or nnU-Net v2's (name: value or values)."""
    labels = description.get("labels") if isinstance(description, Mapping) else None
    if not isinstance(labels, Mapping):
        raise DatasetError(f"{path}: has no `labels`; expected names with their values.")
    labels = without_ignored(path, labels)[0]
    by_value = all(str(key).isdigit() for key in labels)
    named = {str(name): int(value) for value, name in labels.items()} if by_value else dict(labels)
    try:
        return {name: _as_values(values) for name, values in named.items() if values != 0}
    except (TypeError, ValueError):
        raise DatasetError(f"{path}: `labels` is {labels}; expected whole numbers as values.") from None


def _as_values(values: Any) -> LabelValues:
    return tuple(int(value) for value in values) if isinstance(values, list | tuple) else int(values)
