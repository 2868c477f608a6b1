"""The end of an epoch: patch metric, whole-volume metric, alarms, the log's line, and how much time is left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from msseg.data.store import open_case
from msseg.instances.coding import BORDER, LEVELS
from msseg.networks.outputs import decided_classes
from msseg.planes import previous_labels
from msseg.progress import format_duration
from msseg.training.device_batches import DeviceBatch
from msseg.training.job import MakeSegment
from msseg.training.optimisers import learning_rate_of
from msseg.training.run import Run
from msseg.training.schedules import after_epoch, budget_progress
from msseg.training.validation import (
    Overlap,
    Segment,
    mean_dice,
    no_overlap,
    overlap,
    whole_volume_overlaps,
    zero_streaks,
)

# Shares of a budget after which whole volumes are segmented; the first, of one case, is there to time it.
BUDGET_MARKS = (0.03, 0.25, 0.5, 0.75)
WHOLE_VOLUMES = 5
_SHARE_FOR_WHOLE_VOLUMES = 0.01
_UNKNOWN_RESERVE = 0.1
_RESERVE_MARGIN = 1.1
_RESERVE_SECONDS = 3.0
_COLLAPSED_EPOCHS = 10
_COLLAPSED_VALIDATIONS = 2


def training_share(run: Run, ahead_s: float = 0.0) -> float:
    """How much of the training is done, 0 to 1, by steps or by the clock, whichever is further.

    With `ahead_s`, as it will be so many seconds from now.
    """
    job, state = run.job, run.state
    shares = [0.0]
    if job.budget_s is not None:
        shares.append(budget_progress(run.shared_elapsed_s() + ahead_s, job.budget_s, final_reserve_s(run)))
    if job.budget_s is None or job.epochs is not None:
        shares.append(state.step / ((job.epochs or job.recipe.epochs) * run.steps_per_epoch))
    return min(1.0, max(shares))


def final_reserve_s(run: Run) -> float:
    """Seconds to keep for the final validation of all cases, by the time that one took on the way, and what follows."""
    cases, budget_s = len(run.job.split.validation), run.job.budget_s or 0.0
    if not cases:
        return _RESERVE_SECONDS
    looked_for_s = run.job.final_share * budget_s
    if run.state.seconds_per_case is None:
        return _UNKNOWN_RESERVE * budget_s + looked_for_s
    cost = cases * run.state.seconds_per_case * run.job.final_validation_cost
    return _RESERVE_MARGIN * cost + _RESERVE_SECONDS + looked_for_s


def end_epoch(run: Run, batches: Iterator[DeviceBatch], validation_batches: int) -> None:
    """Validate on patches, move the plateau, sound the alarm, log the epoch and begin the next one's sums."""
    state = run.state
    total = patch_overlap(run, itertools.islice(batches, validation_batches))
    dice = total.dice()
    mean_loss = sum(state.losses) / len(state.losses) if state.losses else math.nan
    loss = run.job.team.told_by_lead(lambda: mean_loss)
    if run.job.recipe.plateau is not None and state.losses:
        state.plateau = after_epoch(state.plateau, run.job.recipe.plateau, loss)
    state.zero_epochs = _alarm(run, state.zero_epochs, total, _COLLAPSED_EPOCHS, "epochs of patch validation")
    epoch = state.step // run.steps_per_epoch - 1
    rate = learning_rate_of(run.optimiser)
    run.write(
        "epoch",
        epoch=epoch,
        loss=number(loss),
        patch_dice=[number(value) for value in dice],
        learning_rate=rate,
        waited_s=round(state.waited_s, 3),
        skipped=state.skipped,
    )
    run.report(
        f"epoch {epoch}: loss {loss:.4f}, patch Dice {_shown(dice)}, rate {rate:.2e}, "
        f"{format_duration(run.elapsed_s())}{_time_left(run)}"
    )
    state.losses, state.waited_s = [], 0.0


@torch.no_grad()
def patch_overlap(run: Run, batches: Iterator[DeviceBatch]) -> Overlap:
    """The overlap over all voxels of the batches together."""
    total = no_overlap(1 + len(run.measured))
    network = run.evaluated.eval()
    for batch in batches:
        with torch.autocast(run.job.device.type, dtype=run.dtype, enabled=run.dtype is not None):
            scores = network.main_output(batch.image)  # type: ignore[operator]  # (b, k, *patch)
            labels = decided_classes(scores, run.job.plan.regions)
        total = total + overlap(labels.cpu().numpy(), batch.label.cpu().numpy(), run.num_classes, run.regions)
    return _of_the_team(run, [total])[0]


def _of_the_team(run: Run, overlaps: Sequence[Overlap]) -> list[Overlap]:
    """The overlaps, one by one with those of the other processes added."""
    table = np.array([(one.both, one.predicted, one.reference) for one in overlaps], np.int64)
    return [Overlap(*(tuple(row) for row in rows)) for rows in run.job.team.added(table).tolist()]


def measure_whole_volumes(run: Run, make_segment: MakeSegment | None) -> None:
    """Segment a few validation cases whole, when that is due, and log their Dice and how long one takes."""
    names = _due_cases(run) if make_segment is not None else ()
    if not names or make_segment is None:
        return
    state = run.state
    segment = make_segment(run.evaluated.eval(), run.configuration)
    overlaps, state.seconds_per_case = _segmented(run, segment, names)
    dice = mean_dice(overlaps, 1 + len(run.measured))
    state.whole_volume_validations += 1
    total = sum(overlaps, start=no_overlap(1 + len(run.measured)))
    state.zero_validations = _alarm(
        run, state.zero_validations, total, _COLLAPSED_VALIDATIONS, "validations on whole volumes"
    )
    run.write(
        "validation",
        cases=list(names),
        dice=[number(value) for value in dice],
        seconds_per_case=state.seconds_per_case,
    )
    run.report(f"whole volumes ({len(names)} cases): Dice {_shown(dice)}, {state.seconds_per_case:.2f} s a case")


def _segmented(run: Run, segment: Segment, names: Sequence[str]) -> tuple[list[Overlap], float]:
    """The overlap of each case and the seconds that one took; a team divides the cases."""
    team, nothing = run.job.team, no_overlap(1 + len(run.measured))
    own = names[team.rank :: team.world]
    start = run.clock()
    cases = (_shown_and_label(run, name) for name in own)
    found = dict(zip(own, whole_volume_overlaps(cases, segment, run.num_classes, run.regions), strict=True))
    seconds_per_case = (run.clock() - start) / max(len(own), 1)
    overlaps = _of_the_team(run, [found.get(name, nothing) for name in names])
    return overlaps, team.told_by_lead(lambda: seconds_per_case)


def _due_cases(run: Run) -> tuple[str, ...]:
    """The cases to segment now: a few of the split of ordinary size, the same each time."""
    job, state = run.job, run.state
    if job.budget_s is None:
        due = (state.step // run.steps_per_epoch) % job.recipe.whole_volume_every == 0
        return _ordinary_cases(run, WHOLE_VOLUMES) if due else ()
    done = state.whole_volume_validations
    if done >= len(BUDGET_MARKS) or training_share(run) < BUDGET_MARKS[done]:
        return ()
    affordable = _SHARE_FOR_WHOLE_VOLUMES * job.budget_s / (state.seconds_per_case or math.inf)
    return _ordinary_cases(run, max(1, min(WHOLE_VOLUMES, int(affordable))))


def _ordinary_cases(run: Run, count: int) -> tuple[str, ...]:
    """The validation cases nearest to their mean size: how long they take says how long all of them will."""
    names = run.job.split.validation
    voxels = {name: open_case(run.job.store, name).image[0].size for name in names}
    usual = sum(voxels.values()) / max(len(voxels), 1)
    return tuple(sorted(names, key=lambda name: abs(voxels[name] - usual))[:count])


def _shown_and_label(run: Run, name: str) -> tuple[np.ndarray, ...]:
    """What a case is segmented from, its image and in a cascade what the first network found there, and its label."""
    stored, previous = open_case(run.job.store, name), run.job.previous
    found = () if previous is None else (previous_labels(previous.predictions, name),)
    return np.asarray(stored.image), *found, np.asarray(stored.label)


def _alarm(run: Run, streaks: Sequence[int], total: Overlap, limit: int, what: str) -> tuple[int, ...]:
    """The streaks of zero Dice after this validation; a class at a multiple of `limit` is called out.

    Not the border between objects: seldom the likeliest level, it parts them by its probability all the same.
    """
    after = zero_streaks(streaks or (0,) * len(run.measured), total)
    quiet = () if run.job.plan.instances is None else (LEVELS[BORDER],)
    what_to_do = "" if run.regions else ", or use the recipe mss: its loss weighs by the plan's class_weights"
    for name, streak in zip(run.measured, after, strict=True):
        if streak and streak % limit == 0 and name not in quiet:
            run.warn(
                f"{'region' if run.regions else 'class'} {name!r} has collapsed: Dice 0 in the last {streak} {what}. "
                f"Look at its labels (--check-only), train longer{what_to_do}."
            )
    return after


def _time_left(run: Run) -> str:
    share = training_share(run)
    if not 0 < share < 1:
        return ""
    elapsed = run.elapsed_s()
    return f", {format_duration(elapsed * (1 - share) / share)} left"


def _shown(dice: Sequence[float]) -> str:
    return " ".join("-" if math.isnan(value) else f"{value:.3f}" for value in dice) or "-"


def number(value: float) -> float | None:
    """The value for JSON, which has no NaN."""
    return value if math.isfinite(value) else None
