"""The table of a case from its files; apart, so that the workers that look do not load torch."""

from __future__ import annotations

from msseg.data.image import read_label
from msseg.data.labels import LabelMap
from msseg.evaluation.pairs import Pair
from msseg.postprocessing.tables import CaseTable, case_table


def pair_table(pair: Pair, label_map: LabelMap, has_spacing: bool = True) -> CaseTable:
    """The table of a prediction file and its reference; without `has_spacing` sizes count in voxels."""
    (prediction, geometry), (reference, _) = (read_label(path) for path in (pair.prediction, pair.reference))
    spacing_mm = geometry.known_spacing_mm if has_spacing else None
    predicted = LabelMap(label_map.values).to_index(prediction)  # which holds no ignore value
    return case_table(predicted, label_map.to_index(reference), len(label_map.values), spacing_mm)
