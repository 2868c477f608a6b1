"""Probabilities that several predictions have saved, averaged to one segmentation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msseg.data.image import IMAGE_ENDINGS, write_label
from msseg.data.labels import LabelMap
from msseg.errors import DatasetError
from msseg.inference.averaging import Held, Mean, read_mean, shares
from msseg.inference.probability_files import ENDING, probabilities_path, write_probabilities
from msseg.instances.decision import Decision
from msseg.parallel import Outcome, map_cases
from msseg.pipeline.out_of_fold_scores import spacing_in
from msseg.postprocessing.rules import Rule, apply_rules
from msseg.progress import progress

_USUAL_ENDING = ".nii.gz"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class EnsembleOptions:
    """How members are averaged and what is made of the mean.

    `weights` None weighs all alike. `decision` (None: ½, or the most probable class) and `rules` are applied to the
    mean; `has_spacing` False lets rules count voxels. `instances` writes object numbers. `probability_bits` (8 or 16)
    saves the mean too.
    """

    weights: tuple[float, ...] | None = None
    decision: Decision | None = None
    rules: tuple[Rule, ...] = ()
    has_spacing: bool = True
    instances: bool = False
    probability_bits: int | None = None


@dataclass(frozen=True)
class AveragedCase:
    """One case's files of all members, and the label map to write."""

    name: str
    members: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class EnsembleReport:
    """What became of each case; `doubtful` voxels of `voxels` may be of another class by the rounding in the files.

    A probability lies at most `largest_error` off the mean of what the models said, before it is saved again.
    """

    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: dict[str, str]
    largest_error: float = 0.0
    doubtful: int = 0
    voxels: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every case has its output."""
        return not self.failed

    def summary(self, folder: PathLike) -> str:
        """Lines for the end of the command."""
        lines = [f"{folder}: {len(self.written)} written, {len(self.skipped)} were there already."]
        if self.written:
            lines.append(
                f"Probabilities lie at most {self.largest_error:.2g} off the mean of the models' own, as files hold "
                f"whole numbers: at most {self.doubtful} of {self.voxels} voxels could be of another class."
            )
        return "\n".join([*lines, *(f"failed: {name}: {reason}" for name, reason in self.failed.items())])


def ensemble(
    folders: Sequence[PathLike],
    output_folder: PathLike,
    options: EnsembleOptions | None = None,
    overwrite: bool = False,
    workers: int = 1,
    quiet: bool = True,
) -> EnsembleReport:
    """Average the probabilities that `msseg_predict --save-probabilities` left in folders, into label maps.

    Each folder is a member and must hold the same cases. A label map has the ending of the members' own, and appears
    whole or not at all; those that are there are kept unless `overwrite`. Raises DatasetError where folders or cases do
    not fit together or an output would replace an input; a case whose labels or grids differ is reported as failed.
    """
    options, output = options or EnsembleOptions(), Path(output_folder)
    places = [Path(folder) for folder in folders]
    if output.resolve() in {place.resolve() for place in places}:
        raise DatasetError(f"{output}: the outputs would replace the inputs. Name another folder with -o.")
    _check_weights(options.weights, len(places))
    cases = averaged_cases(places, output)
    skipped = tuple(case.name for case in cases if not overwrite and _is_written(case, options))
    todo = [case for case in cases if case.name not in skipped]
    outcomes = map_cases(_Average(options), todo, workers)
    return _gathered(progress(outcomes, "average", total=len(todo), quiet=quiet), skipped)


def threshold_decision(threshold: float | None) -> Decision | None:
    """The decision of a threshold alone, None without one."""
    return None if threshold is None else Decision(foreground=threshold)


def averaged_cases(folders: Sequence[Path], output: Path) -> list[AveragedCase]:
    """The cases of all folders, by name. Raises DatasetError where a folder has none, or not the same as the first."""
    names = [_stored_names(folder) for folder in folders]
    for folder, its in zip(folders[1:], names[1:], strict=True):
        missing, more = sorted(set(names[0]) - set(its)), sorted(set(its) - set(names[0]))
        if missing or more:
            found = f"lacks {', '.join(missing[:3])}" if missing else f"has {', '.join(more[:3])} besides"
            raise DatasetError(
                f"{folder}: {found}; expected the cases of {folders[0]}. Predict the same images with each."
            )
    return [
        AveragedCase(
            name,
            tuple(probabilities_path(name, folder) for folder in folders),
            output / f"{name}{_ending(name, folders)}",
        )
        for name in names[0]
    ]


def average(case: AveragedCase, options: EnsembleOptions) -> tuple[float, int, int]:
    """Write a case's label map, the mean before it where it is asked for; its error, doubtful voxels and all voxels."""
    mean = read_mean(case.members, options.weights)
    threshold = None if options.decision is None else options.decision.foreground
    if options.probability_bits is not None:
        path = probabilities_path(case.name, case.output.parent)
        coding = mean.labels, options.probability_bits, mean.instances, mean.regions
        write_probabilities(path, mean.probabilities(), mean.geometry, *coding)
    write_label(case.output, label_of(mean, options), mean.geometry)
    return mean.largest_error, mean.doubtful(threshold), int(np.prod(mean.geometry.shape))


def label_of(mean: Mean | Held, options: EnsembleOptions) -> np.ndarray:
    """The label map (z, y, x) of a mean in the values of label files, or its object numbers."""
    if options.instances:
        from msseg.instances.watershed import instances_from  # loads scipy

        objects = instances_from(mean.probabilities(), options.decision or Decision())
        return objects.astype(np.uint16 if objects.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32)
    threshold = None if options.decision is None else options.decision.foreground
    values = mean.labels.values() if mean.instances is None else (0, mean.instances.value)
    spacing_mm = spacing_in(mean.geometry, options.has_spacing)
    return LabelMap(tuple(values)).to_values(apply_rules(mean.classes(threshold), options.rules, spacing_mm))


@dataclass(frozen=True)
class _Average:
    """`average` with its options, for workers."""

    options: EnsembleOptions

    def __call__(self, case: AveragedCase) -> tuple[float, int, int]:
        return average(case, self.options)


def _gathered(
    outcomes: Iterable[tuple[AveragedCase, Outcome[tuple[float, int, int]]]], skipped: tuple[str, ...]
) -> EnsembleReport:
    written: dict[str, tuple[float, int, int]] = {}
    failed: dict[str, str] = {}
    for case, outcome in outcomes:
        if outcome.value is not None:
            written[case.name] = outcome.value
        else:
            failed[case.name] = str(outcome.error)
    errors, doubtful, voxels = zip(*written.values(), strict=True) if written else ((0.0,), (0,), (0,))
    return EnsembleReport(tuple(written), skipped, failed, max(errors), sum(doubtful), sum(voxels))


def _check_weights(weights: Sequence[float] | None, count: int) -> None:
    try:
        shares(weights, count)
    except ValueError as error:
        raise DatasetError(f"--weights: {error}.") from None


def _is_written(case: AveragedCase, options: EnsembleOptions) -> bool:
    saved = options.probability_bits is None or probabilities_path(case.name, case.output.parent).is_file()
    return saved and case.output.is_file()


def _stored_names(folder: Path) -> list[str]:
    found = sorted(path.name.removesuffix(ENDING) for path in folder.glob(f"*{ENDING}") if path.name[0] != ".")
    if not found:
        raise DatasetError(
            f"{folder}: no files ending in {ENDING}. Make them with msseg_predict --save-probabilities, and name the "
            "folder that they are in."
        )
    return found


def _ending(name: str, folders: Sequence[Path]) -> str:
    """The ending of the label map that a member has of the case; .nii.gz where none has one."""
    return next(
        (ending for folder in folders for ending in IMAGE_ENDINGS if (folder / f"{name}{ending}").is_file()),
        _USUAL_ENDING,
    )
