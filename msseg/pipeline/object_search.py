"""Objects made of validation probabilities with every candidate of a grid, within a limit of time."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from msseg.data.cases import Case
from msseg.data.image import read_label
from msseg.errors import DatasetError
from msseg.evaluation.objects import object_counts
from msseg.inference.outputs import ProbabilityFiles
from msseg.inference.probability_files import read_probabilities
from msseg.instances.decision import Decision
from msseg.parallel import map_cases
from msseg.postprocessing.thresholds import OBJECT_METRICS
from msseg.progress import progress

FOREGROUNDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SEEDS = (0.35, 0.5, 0.65, 0.8)
SMALLEST_PX = (0, 10, 20, 40, 80)
CANDIDATES = tuple(Decision(*thresholds) for thresholds in itertools.product(FOREGROUNDS, SEEDS, SMALLEST_PX))
# Objects of so many cases are looked at, evenly spread over their names; their probabilities are kept in 8 bits.
MOST_CASES = 40
# Of a budget, kept for the search.
SEARCH_SHARE = 0.05
BITS = 8

Table = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class SearchedCase:
    """A case with the files of its probabilities and its numbered objects."""

    name: str
    probabilities: Path
    reference: Path


def searched_cases(cases: Sequence[Case]) -> list[Case]:
    """The cases that are looked at: `MOST_CASES` of them at most, evenly spread."""
    if len(cases) <= MOST_CASES:
        return list(cases)
    return [cases[round(place)] for place in np.linspace(0, len(cases) - 1, MOST_CASES)]


def search_objects(
    cases: Sequence[Case],
    files: ProbabilityFiles,
    seconds: float,
    workers: int = 1,
    quiet: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Table]:
    """What each case adds to each object metric for every candidate, by case; those that fit into `seconds`.

    No candidate is begun once the time is up; a case that is not through by then is left out. Raises DatasetError where
    a file cannot be read.
    """
    items = [SearchedCase(case.name, files.path(case), case.label_path) for case in cases if case.label_path]
    look = partial(object_table, deadline=time.time() + seconds)
    tables: dict[str, Table] = {}
    outcomes = map_cases(look, items, workers)
    for item, outcome in progress(outcomes, "search object thresholds", total=len(items), quiet=quiet):
        if outcome.error is not None:
            raise outcome.error
        if outcome.value is not None:
            tables[item.name] = outcome.value
        if stop():
            break
    return tables


def object_table(item: SearchedCase, deadline: float) -> Table | None:
    """What the case adds to each object metric for every one of `CANDIDATES`; None past the deadline (time.time)."""
    if time.time() > deadline:
        return None
    return probabilities_table(read_probabilities(item.probabilities).probabilities, item.reference, deadline)


def probabilities_table(probabilities: np.ndarray, reference_path: Path, deadline: float = math.inf) -> Table | None:
    """The same of probabilities (k, z, y, x) and the file, or the folder of masks, of their numbered objects."""
    from msseg.instances.watershed import instances_from, large_enough

    reference, _ = read_label(reference_path)
    if reference.shape != probabilities.shape[1:]:
        raise DatasetError(f"{reference_path}: shape {reference.shape}, but its image is {probabilities.shape[1:]}.")
    table: Table = {metric: [] for metric in OBJECT_METRICS}
    for foreground, seed in itertools.product(FOREGROUNDS, SEEDS):
        if time.time() > deadline:
            return None
        objects = instances_from(probabilities, Decision(foreground, seed))
        for smallest_px in SMALLEST_PX:
            counts = object_counts(large_enough(objects, smallest_px), reference)
            for metric, tally in OBJECT_METRICS.items():
                table[metric].append(tally(counts))
    return table
