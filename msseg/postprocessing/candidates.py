"""What the rules would do to a case's files; apart, so that the workers that look do not load torch."""

from __future__ import annotations

import numpy as np

from msseg.data.image import read_label
from msseg.data.labels import LabelMap
from msseg.evaluation.pairs import Pair
from msseg.postprocessing.decide import candidate_dice


def pair_candidates(pair: Pair, label_map: LabelMap) -> np.ndarray:
    """The `candidate_dice` of a prediction file and its reference."""
    prediction, reference = (label_map.to_index(read_label(path)[0]) for path in (pair.prediction, pair.reference))
    return candidate_dice(prediction, reference, len(label_map.values))
