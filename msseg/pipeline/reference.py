"""Reference labels as the class indices of a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msseg.data.image import read_label
from msseg.data.labels import LabelMap
from planning.plan import Plan


def read_reference(path: Path, plan: Plan) -> np.ndarray:
    """Class indices (z, y, x) uint8 of a label file; of numbered objects 1, whatever their number.

    Where the plan has an ignore value they are signed, and -1 where nobody annotated.

    Raises DatasetError for values that are not declared.
    """
    label, _ = read_label(path)
    if plan.instances is not None:
        return (label != 0).astype(np.uint8)
    return LabelMap(tuple(plan.labels.values()), plan.ignore).to_index(label)
