"""The training loop of one fold, from the first step or the last checkpoint to the final weights."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from msseg.checkpoint import FINAL, LATEST
from msseg.data.store import stored_names
from msseg.errors import DatasetError, MssegError, ResourceError
from msseg.interrupts import StopRequest
from msseg.networks.allocation import keep_freed_memory
from msseg.progress import format_duration, progress
from msseg.training.augmentation import augmentation_named, varied
from msseg.training.batches import BatchSource
from msseg.training.curves import CURVES, draw_curves
from msseg.training.device_batches import DeviceBatch, device_batches
from msseg.training.epoch import end_epoch, measure_whole_volumes, training_share
from msseg.training.job import MakeSegment, TrainingJob, TrainingResult
from msseg.training.log import LOG
from msseg.training.optimisers import put_back, running_statistics, set_learning_rate, update_average
from msseg.training.overrides import changes
from msseg.training.prefetch import request_sequence
from msseg.training.recipes import VARIED, recipe_to_json, training_patch
from msseg.training.run import Run, loss_name, prepare_forward, save_final, save_latest, start_run
from msseg.training.schedules import SCHEDULES, Plateau, has_settled
from msseg.training.step_plan import image_laid_out
from planning.label_pairs import sides_of
from planning.normalisation import colour_channels
from planning.plan import Configuration

SECONDS_BETWEEN_CHECKPOINTS = 300.0
_SKIPPED_IN_A_ROW = 20
_TRAINING_STREAM, _VALIDATION_STREAM = 0, 1


def train_fold(
    job: TrainingJob,
    make_segment: MakeSegment | None = None,
    stop: StopRequest | None = None,
    report: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Train one fold and say how it ended; started again it goes on from its last checkpoint.

    `make_segment` turns a network into a function from a stored image to a label map, for validation on whole
    volumes. `stop` is looked at after every step. `report` shows a line to the user (default: stderr).
    Raises DatasetError where the store lacks a case, CheckpointError where the folder holds another training,
    ResourceError where the batch workers keep dying, MssegError where the loss stays NaN.
    """
    _check_store(job)
    job.folder.mkdir(parents=True, exist_ok=True)
    with job.team.lead_first():
        if job.restart and job.team.leads:
            _forget(job.folder)
    if job.device.type == "cpu":
        keep_freed_memory()
    report = (report or _print_line) if job.team.leads else _say_nothing
    run = start_run(job, clock, report)
    run.stop = stop or StopRequest()
    if _is_complete(run):
        run.report(f"training already complete ({run.state.finished}, {run.state.step} steps)")
        return _result(run, already_complete=True)
    _announce(run)
    try:
        run.state.finished = _train_on_batches(run, make_segment, run.stop)
    except torch.cuda.OutOfMemoryError as error:
        raise _out_of_memory(run) from error
    _finish(run)
    return _result(run, already_complete=False)


def _train_on_batches(run: Run, make_segment: MakeSegment | None, stop: StopRequest) -> str:
    """Train with batches from workers that end with it; says how training ended."""
    prepare_forward(run)
    run.agree()
    sources = batch_sources(run.job, run.configuration)
    requests = request_sequence(run.state.step, run.steps_per_epoch, _validation_batches(run.job))
    with contextlib.closing(
        device_batches(
            sources, requests, _batch_workers(run.job), run.job.device, run.augment, _unless(stop, _warner(run))
        )
    ) as batches:
        return _train(run, batches, make_segment, stop)


def batch_sources(job: TrainingJob, configuration: Configuration) -> dict[str, BatchSource]:
    """The sources of training batches, augmented, and of validation batches, as stored."""
    neighbours = configuration.neighbour_slices
    patch_size, mirror_axes = training_patch(configuration, job.recipe), configuration.mirror_axes
    sides = sides_of(job.plan, configuration)
    if neighbours:  # as a stack that is augmented slice by slice, all alike
        patch_size, mirror_axes = (2 * neighbours + 1, *patch_size), tuple(axis + 1 for axis in mirror_axes)
        sides = sides and sides._replace(axis=sides.axis + 1)
    training = BatchSource(
        store=job.store,
        case_names=tuple(job.split.train),
        patch_size=patch_size,
        batch_size=configuration.batch_size,
        seed=job.seed,
        stream=_TRAINING_STREAM,
        foreground_share=job.recipe.foreground_share,
        augmentation=varied(augmentation_named(job.recipe.augmentation), VARIED[job.recipe.variations](configuration)),
        dummy_2d=configuration.dummy_2d or neighbours > 0,
        mirror_axes=mirror_axes,
        colour_channels=colour_channels([channel.name for channel in job.plan.channels]),
        padding=configuration.image_padding,
        slices_as_channels=neighbours > 0,
        sides=sides,
        previous=None if job.previous is None else job.previous.predictions,
        planes=() if job.previous is None else job.plan.planes,
        rows=job.team.rows(configuration.batch_size),
    )
    validation = replace(training, case_names=tuple(job.split.validation), stream=_VALIDATION_STREAM, augmentation=None)
    return {"training": training, "validation": validation}


def _check_store(job: TrainingJob) -> None:
    if not job.split.train:
        raise DatasetError(f"fold {job.fold}: no training cases. Give the data set more cases, or train fold all.")
    missing = sorted({*job.split.train, *job.split.validation} - set(stored_names(job.store)))
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise DatasetError(
            f"{job.store}: {len(missing)} cases of fold {job.fold} are not there ({shown}). "
            "Run msseg_plan_and_preprocess again; it makes only what is missing."
        )


def _forget(folder: Path) -> None:
    """Remove what an earlier training left: its log would mix with the new one's, its checkpoints be gone on from."""
    for name in (LATEST, FINAL, LOG, CURVES):
        (folder / name).unlink(missing_ok=True)


def _out_of_memory(run: Run) -> ResourceError:
    shape = f"{run.configuration.batch_size} patches of {list(training_patch(run.configuration, run.job.recipe))}"
    return ResourceError(
        f"{run.job.folder}: the memory of {run.job.device} does not hold a step on {shape}. Plan with a smaller "
        "--memory, or free the device from other work; training goes on from its last checkpoint."
    )


def _validation_batches(job: TrainingJob) -> int:
    return job.recipe.validation_batches if job.split.validation else 0


def _unless(stop: StopRequest, warn: Callable[[str], None]) -> Callable[[str], None]:
    """`warn`, silent once a stop is asked for: a signal to the whole process group ends the workers too."""
    return lambda message: None if stop.requested else warn(message)


def _warner(run: Run) -> Callable[[str], None]:
    """What shows a warning of this process alone."""
    team = run.job.team
    return run.warn if team.leads else lambda message: _print_line(f"warning of process {team.rank}: {message}")


def _batch_workers(job: TrainingJob) -> int:
    """On a CPU one worker makes patches many times faster than the network takes them; more would take its cores."""
    return min(job.workers, 1) if job.device.type == "cpu" else job.team.workers(job.workers)


def _train(run: Run, batches: Iterator[DeviceBatch], make_segment: MakeSegment | None, stop: StopRequest) -> str:
    """Run epochs until one of the endings; says which."""
    while True:
        for batch in _bar(run, _timed(run, batches)):
            train_step(run, batch)
            # After an epoch's last step comes its validation, which a checkpoint written in between would lose.
            if run.state.step % run.steps_per_epoch == 0:
                continue
            if run.job.budget_s is not None:
                measure_whole_volumes(run, make_segment)
            if ending := _ending(run, stop):
                return ending
            _save_if_due(run)
        end_epoch(run, batches, _validation_batches(run.job))
        measure_whole_volumes(run, make_segment)
        if ending := _ending(run, stop):
            return ending
        _save_if_due(run)


def _timed(run: Run, batches: Iterator[DeviceBatch]) -> Iterator[DeviceBatch]:
    """The batches left in this epoch; how long each was waited for, and how long a step takes, is noted."""
    for _ in range(run.steps_per_epoch - run.state.step % run.steps_per_epoch):
        start = run.clock()
        batch = next(batches)
        waited_s = run.clock() - start
        run.state.waited_s += waited_s
        run.state.waited_in_all_s += waited_s
        yield batch
        run.last_step_s = run.clock() - start


def train_step(run: Run, batch: DeviceBatch) -> None:
    """One step of the optimiser; a loss or gradient that is not finite skips it and is counted."""
    state = run.state
    set_learning_rate(run.optimiser, learning_rate(run))
    # Dropout and point rendering draw from torch's global generator; a seed per step makes a resumed training draw the
    # same.
    torch.manual_seed(_step_seed(run.job.seed, state.step, run.job.team.rank))
    image = image_laid_out(batch.image, run.step_plan)  # (b, c, *patch)
    target = batch.label.to(torch.int64)  # (b, *patch)
    run.network.train()
    statistics = running_statistics(run.network)
    value, norm = _gradient(run, run.forward(image, target))
    state.step += 1
    if _descend(run, math.isfinite(value) and math.isfinite(norm)):
        state.losses.append(value)
        state.skipped_in_a_row = 0
    else:
        put_back(run.network, statistics)
        _count_skipped(run, value)


def _gradient(run: Run, loss: torch.Tensor) -> tuple[float, float]:
    """The loss, and the norm of its gradient before it is clipped to the recipe's."""
    run.optimiser.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()
    run.scaler.unscale_(run.optimiser)
    norm = torch.nn.utils.clip_grad_norm_(run.network.parameters(), run.job.recipe.clip_norm)
    run.agree()
    # Both at once, after all is queued: a device would stand idle while the loss alone was waited for.
    value, size = torch.stack([loss.detach().float(), norm.float()]).tolist()
    return value, size


def _descend(run: Run, finite: bool) -> bool:
    """Step along the gradient and move the average; False, and nothing moved, where it is not `finite`."""
    if run.scaler.is_enabled():
        # It leaves a step that is not finite out by itself, and lowers its scale.
        run.scaler.step(run.optimiser)
        run.scaler.update()
    elif finite:
        run.optimiser.step()
    if not finite:
        return False
    if run.average is not None:
        update_average(run.average, run.network, run.job.recipe.average_decay, run.state.average_updates)
        run.state.average_updates += 1
    return True


def _count_skipped(run: Run, loss: float) -> None:
    state = run.state
    state.skipped += 1
    state.skipped_in_a_row += 1
    # An overflow in float16 is how the scaler finds its scale: no news, unless it persists.
    if state.skipped_in_a_row == 1 and not (run.scaler.is_enabled() and math.isfinite(loss)):
        run.warn(f"step {state.step}: loss {loss}, or its gradient, is not finite; step skipped")
    if state.skipped_in_a_row >= _SKIPPED_IN_A_ROW:
        raise MssegError(
            f"{run.job.folder}: the loss was not finite {state.skipped_in_a_row} steps in a row (last at step "
            f"{state.step}, learning rate {learning_rate(run):.3g}). The weights are as before. Look for broken "
            "intensities with --check-only, or train with a lower learning rate or another recipe."
        )


def _step_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for each process: they have different samples."""
    return int(np.random.SeedSequence((seed, step, rank) if rank else (seed, step)).generate_state(1)[0])


def learning_rate(run: Run) -> float:
    """The rate of the next step."""
    recipe = run.job.recipe
    factor = SCHEDULES[recipe.schedule](training_share(run), recipe.warmup)
    factor = recipe.final_rate + (1 - recipe.final_rate) * factor
    return recipe.learning_rate * factor * run.state.plateau.scale


def _ending(run: Run, stop: StopRequest) -> str:
    """Why training should end now, or nothing."""
    rule = run.job.recipe.plateau
    agreed = run.agreed
    if stop.requested if agreed is None else agreed.stop:
        return "stopped"
    step_s = run.last_step_s if agreed is None else agreed.step_s
    if run.job.budget_s is not None and training_share(run, ahead_s=step_s) >= 1:
        return "budget"
    if run.state.step >= _last_step(run):
        return "epochs"
    if rule is not None and has_settled(run.state.plateau, rule):
        return "early stop"
    return ""


def _last_step(run: Run) -> float:
    if run.job.budget_s is not None and run.job.epochs is None:
        return math.inf
    return (run.job.epochs or run.job.recipe.epochs) * run.steps_per_epoch


def _is_complete(run: Run) -> bool:
    """Whether the checkpoint is of a finished training, of which no more is asked now than was then."""
    finished = run.state.finished
    if finished in ("", "stopped"):
        return False
    more_steps = run.state.step < _last_step(run)
    more_time = (run.job.budget_s or 0.0) > (run.state.budget_s or 0.0)
    asked_for_more = {
        "budget": more_time or (run.job.budget_s is None and more_steps),
        "epochs": more_steps and (more_time or run.job.budget_s is None),
        "early stop": run.job.epochs is not None and more_steps,
    }
    return (run.job.folder / FINAL).exists() and not asked_for_more[finished]


def _save_if_due(run: Run) -> None:
    if run.job.team.leads and run.clock() - run.saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
        save_latest(run)
        draw_curves(run.job.folder)


def _finish(run: Run) -> None:
    """Write what the end of a training leaves behind; the checkpoint that says "finished" last of the two."""
    if run.state.finished != "stopped":
        save_final(run)
    save_latest(run)
    waited_s = run.state.waited_in_all_s
    run.write("end", ended=run.state.finished, skipped=run.state.skipped, waited_s=round(waited_s, 3))
    if run.job.team.leads:
        draw_curves(run.job.folder)
    elapsed_s = run.elapsed_s()
    run.report(
        f"training ended ({run.state.finished}) after {run.state.step} steps, {format_duration(elapsed_s)}; "
        f"waited for batches {waited_s / max(elapsed_s, 1e-9):.1%} of the time"
    )


def _result(run: Run, already_complete: bool) -> TrainingResult:
    return TrainingResult(
        ended=run.state.finished,
        already_complete=already_complete,
        steps=run.state.step,
        epochs=run.state.step // run.steps_per_epoch,
        elapsed_s=run.state.elapsed_s,
        checkpoint=run.job.folder / FINAL,
        warnings=tuple(run.warnings),
    )


def _announce(run: Run) -> None:
    job, step, loss = run.job, run.state.step, loss_name(run.job.recipe, run.job.plan)
    if step:
        run.report(f"going on at step {step} (epoch {step // run.steps_per_epoch})")
        if run.state.finished == "early stop":
            run.state.plateau = Plateau(scale=run.state.plateau.scale)
    if loss != job.recipe.loss:
        run.report(f"regions {', '.join(run.measured)}: the loss is {loss}, in place of the recipe's {job.recipe.loss}")
    run.state.finished = ""
    run.state.budget_s = job.budget_s
    run.write(
        "resume" if step else "start",
        fold=job.fold,
        recipe=recipe_to_json(job.recipe),
        changed=changes(job.recipe),
        network=run.configuration.network,
        network_options=dict(run.configuration.network_options),
        features=list(run.configuration.features),
        patch_size=list(training_patch(run.configuration, job.recipe)),
        batch_size=run.configuration.batch_size,
        labels=[next(iter(job.plan.labels)), *run.measured],
        loss=loss,
        seed=job.seed,
        device=str(job.device),
        precision=str(run.dtype or torch.float32),
        step_plan=run.step_plan.as_json(),
        step_probe=dict(run.step_probe),
        workers=job.workers,
        augment=run.augment,
        epochs=job.epochs,
        budget_s=job.budget_s,
        **({"processes": job.team.world} if job.team.is_shared else {}),
    )


def _bar(run: Run, batches: Iterator[DeviceBatch]) -> Iterator[DeviceBatch]:
    """A bar over the steps of an epoch on a terminal; a log has one line an epoch instead."""
    done = run.state.step % run.steps_per_epoch
    name = f"fold {run.job.fold} epoch {run.state.step // run.steps_per_epoch}"
    quiet = not (run.job.team.leads and sys.stderr.isatty())
    return progress(batches, name, total=run.steps_per_epoch - done, unit="step", quiet=quiet)


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say_nothing(_line: str) -> None:
    pass
