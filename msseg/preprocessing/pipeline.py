"""A data set into the store: only the cases that are missing or stale are prepared, the others are kept."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msseg.data.dataset import Case, Dataset
from msseg.data.image import read_image, read_label
from msseg.data.labels import LabelCoding
from msseg.data.store import FORMAT_VERSION, case_key, remove_case, stored_names, write_case
from msseg.errors import MssegError
from msseg.files import content_hash, value_hash
from msseg.parallel import map_cases
from msseg.preprocessing.case import preprocess_case
from msseg.preprocessing.decoded import Decoded, content_of, recall
from msseg.preprocessing.examine import Watch, case_paths, coding_key
from planning.json_fields import as_json
from planning.plan import ChannelPlan, Plan

_LOG = logging.getLogger("msseg")

PREPARATION_VERSION = 2  # counts changes of what preparing a case gives, so that stores of older versions are stale
_ABANDONED_AFTER_S = 3600.0


@dataclass(frozen=True)
class Preparation:
    """What became of the cases of a data set: names, and the reason for each that failed."""

    prepared: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    failed: dict[str, str]


def preprocess_dataset(
    dataset: Dataset,
    plan: Plan,
    configuration_name: str,
    store: Path,
    workers: int,
    executor: Executor | None = None,
    skip: Collection[str] = (),
    watch: Watch = iter,
    decoded: Decoded | None = None,
) -> Preparation:
    """Brings the store to hold exactly the training cases, without those in `skip`, prepared by this plan.

    A case is stale when the content of its files or a part of the plan that matters here has changed. Cases of
    other names are removed. Stopped at any moment, the next call goes on with what is missing. A case that the
    examination left in `decoded` is taken from there, and is what was examined even if its files have changed since.
    """
    cases = [case for case in dataset.training if case.name not in skip]
    wanted = {case.name for case in cases}
    removed = [name for name in stored_names(store) if name not in wanted]
    for name in removed:
        remove_case(store, name)
    _remove_abandoned(store)
    prepare = _Prepare(store, replace(plan, reasons=()), configuration_name, dataset.label_map, decoded)
    done: dict[bool, list[str]] = {True: [], False: []}
    failed: dict[str, str] = {}
    for case, outcome in watch(map_cases(prepare, cases, workers, executor)):
        if outcome.value is not None:
            done[outcome.value].append(case.name)
            _LOG.debug("%s: %s", case.name, "prepared" if outcome.value else "kept")
        elif isinstance(outcome.error, MssegError):
            failed[case.name] = str(outcome.error)
        else:
            raise outcome.error or RuntimeError(f"{case.name}: prepared without a result")
    return Preparation(tuple(sorted(done[True])), tuple(sorted(done[False])), tuple(removed), failed)


def preparation_key(content: str, plan: Plan, configuration_name: str, labels: list[Any]) -> str:
    """A hash of all that a prepared case depends on: its files' content and what preparing reads of the plan."""
    configuration = plan.configurations[configuration_name]
    return value_hash(
        {
            "versions": [FORMAT_VERSION, PREPARATION_VERSION],
            "content": content,
            "labels": labels,
            "axis_order": list(plan.axis_order),
            **({} if plan.has_spacing else {"has_spacing": False}),
            "channels": [_relevant(channel) for channel in plan.channels],
            "spacing_mm": list(configuration.spacing_mm),
            "orders": [configuration.image_order, configuration.label_order],
        }
    )


def _relevant(channel: ChannelPlan) -> dict[str, Any]:
    """The fields of a channel's plan that its scheme reads: only `ct` uses the fingerprint's intensities."""
    fields = as_json(channel)
    read = ["normalisation", "inside_nonzero_mask"]
    if channel.normalisation == "ct":
        read += ["lower", "upper", "mean", "std"]
    return {name: fields[name] for name in read}


@dataclass(frozen=True)
class _Prepare:
    """Prepares one case in a worker; True where it had to, False where the store already had it."""

    store: Path
    plan: Plan
    configuration_name: str
    label_map: LabelCoding
    decoded: Decoded | None = None

    def __call__(self, case: Case) -> bool:
        content = None if self.decoded is None else content_of(self.decoded, case.name)
        content = content or content_hash(*case_paths(case))
        key = preparation_key(content, self.plan, self.configuration_name, coding_key(self.label_map))
        if case_key(self.store, case.name) == key:
            return False
        configuration = self.plan.configurations[self.configuration_name]
        prepared = preprocess_case(*self._read(case), self.plan, configuration, overwrite=True)
        write_case(self.store, case.name, prepared.image, prepared.label, prepared.locations, prepared.properties, key)
        return True

    def _read(self, case: Case) -> tuple[np.ndarray, np.ndarray | None, tuple[float, ...]]:
        """Image, class indices and spacing, nowhere else referred to."""
        kept = None if self.decoded is None else recall(self.decoded, case.name)
        if kept is not None:
            return kept.image, kept.label, kept.spacing_mm
        image, geometry = read_image(case.image_paths, len(self.plan.channels))
        label = None
        if case.label_path is not None:
            label = self.label_map.to_index(read_label(case.label_path)[0])
        return image, label, geometry.spacing_mm


def _remove_abandoned(store: Path) -> None:
    """Remove what a killed run left half-written; what is younger than an hour may still be written by another."""
    for path in store.glob(".writing-*"):
        with contextlib.suppress(FileNotFoundError):  # the other may have finished with it by now
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink()
