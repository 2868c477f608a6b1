"""What is written of a predicted case: label maps, object numbers, probabilities; each kind knows its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from msseg.data.cases import Case
from msseg.data.geometry import Geometry
from msseg.data.image import image_ending, output_ending, write_label
from msseg.inference.prediction import Keep, Prediction
from msseg.inference.predictor import Predictor, whole_grid
from msseg.inference.probability_files import probabilities_path, write_probabilities
from msseg.instances.decision import Decision
from msseg.preprocessing.case import PreparedCase


@dataclass(frozen=True)
class PredictedCase:
    """A case with what the networks found in it, and what it takes to bring that back to the image's grid."""

    case: Case
    geometry: Geometry
    prepared: PreparedCase
    found: Prediction


class Output(Protocol):
    """One kind of file that is written of every case; it appears whole or not at all."""

    @property
    def keep(self) -> Keep:
        """What of the scores it needs."""

    def path(self, case: Case) -> Path:
        """Where the file of a case goes."""

    def write(self, predictor: Predictor, one: PredictedCase) -> None:
        """Write the file of a case."""


@dataclass(frozen=True)
class LabelMaps:
    """Label maps in the values of the data set's labels, after decision and postprocessing."""

    folder: Path
    keep: ClassVar[Keep] = Keep()

    def path(self, case: Case) -> Path:
        return output_path(case, self.folder)

    def write(self, predictor: Predictor, one: PredictedCase) -> None:
        write_label(self.path(one.case), predictor.finish(one.found.classes, one.prepared), one.geometry)


@dataclass(frozen=True)
class ObjectNumbers:
    """Label maps of objects, numbered from 1, in the smallest of uint16 and uint32 that holds them."""

    folder: Path
    keep: ClassVar[Keep] = Keep(probabilities=True)

    def path(self, case: Case) -> Path:
        return output_path(case, self.folder)

    def write(self, predictor: Predictor, one: PredictedCase) -> None:
        from msseg.instances.watershed import instances_from  # loads scipy

        assert one.found.probabilities is not None
        objects = instances_from(one.found.probabilities, predictor.decision or Decision())
        dtype = np.uint16 if objects.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
        write_label(self.path(one.case), objects.astype(dtype), one.geometry)


@dataclass(frozen=True)
class ProbabilityFiles:
    """Probabilities of all classes, or regions, in `bits` (8 or 16); see `probability_files`."""

    folder: Path
    bits: int
    keep: ClassVar[Keep] = Keep(probabilities=True)

    def path(self, case: Case) -> Path:
        return probabilities_path(case.name, self.folder)

    def write(self, predictor: Predictor, one: PredictedCase) -> None:
        assert one.found.probabilities is not None
        path, plan = self.path(one.case), predictor.model.plan
        coding = plan.labels, self.bits, plan.instances, plan.regions
        write_probabilities(path, one.found.probabilities, one.geometry, *coding)


def output_path(case: Case, output_folder: Path) -> Path:
    """Where the label map of a case goes: its name with its image's ending."""
    first = case.image_paths[0]
    return Path(output_folder) / f"{case.name}{output_ending(image_ending(first) or first.suffix)}"


def shares_on_grid(one: PredictedCase) -> np.ndarray:
    """The foreground's probability (z, y, x) on the image's own grid, uint8, see `Foreground`; it must be kept."""
    assert one.found.shares is not None
    return whole_grid(one.found.shares, one.prepared)


def kept_by(outputs: Sequence[Output]) -> Keep:
    """What of the scores all the outputs need together."""
    needs = [output.keep for output in outputs]
    return Keep(any(one.probabilities for one in needs), any(one.shares for one in needs))
