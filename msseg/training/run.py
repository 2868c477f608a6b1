"""The moving parts of one training, set up anew or from its last checkpoint, and written back."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from msseg.checkpoint import (
    FINAL,
    LATEST,
    Checkpoint,
    load_checkpoint,
    load_weights,
    plan_hash,
    save_checkpoint,
    versions,
    with_configuration,
)
from msseg.errors import CheckpointError
from msseg.interrupts import StopRequest
from msseg.losses.level_targets import OF_SPARSE_LABELS, rarest_first
from msseg.losses.supervision import SupervisedLoss
from msseg.losses.table import REGION_LOSS, build_loss
from msseg.networks.build import build_network
from msseg.previous_model import PreviousModel
from msseg.training.device_batches import default_augment
from msseg.training.encoder import start_encoder, weights_record
from msseg.training.gathered_norm import with_gathered_norms
from msseg.training.job import TrainingJob
from msseg.training.log import LOG, append_entry
from msseg.training.optimisers import load_optimiser_tensors, optimiser_tensors
from msseg.training.overrides import changes
from msseg.training.probing import step_plan_for
from msseg.training.recipes import Recipe, recipe_to_json
from msseg.training.state import TrainingState, state_from_json, state_to_json
from msseg.training.step_plan import (
    LossOf,
    StepPlan,
    forward_of,
    laid_out,
    optimiser_of,
    state_laid_out,
    step_plan_from_json,
    unmeasured_plan,
)
from msseg.training.trained_configuration import divisible, trained_configuration
from planning.plan import Configuration, Plan


class Agreement(NamedTuple):
    """The time as the process that leads a team had it at the last step, and whether any was asked to stop."""

    elapsed_s: float
    step_s: float
    stop: bool


@dataclass
class Run:
    """Everything that a training step touches; `clock` gives seconds, `report` shows a line to the user.

    `forward` gives the loss of images and labels. `agreed` is what the processes of a team know of each other.
    `encoder_weights` says which file the encoder started from, None where it began with random weights; `augment` where
    batches are augmented. `step_plan` says how a step is computed, `step_probe` what was measured to choose it.
    """

    job: TrainingJob
    configuration: Configuration
    network: nn.Module
    average: nn.Module | None
    forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    optimiser: torch.optim.Optimizer
    loss: SupervisedLoss
    scaler: torch.amp.GradScaler
    step_plan: StepPlan
    state: TrainingState
    clock: Callable[[], float]
    report: Callable[[str], None]
    encoder_weights: Mapping[str, Any] | None = None
    augment: str = "workers"
    step_probe: Mapping[str, Any] = field(default_factory=dict)
    session_start: float = 0.0
    elapsed_before_s: float = 0.0
    saved_at: float = 0.0
    last_step_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    stop: StopRequest = field(default_factory=StopRequest)
    agreed: Agreement | None = None

    @property
    def dtype(self) -> torch.dtype | None:
        """Autocast's type, None for float32 throughout."""
        return self.step_plan.dtype

    @property
    def num_classes(self) -> int:
        return len(self.job.plan.labels)

    @property
    def regions(self) -> tuple[tuple[int, ...], ...]:
        """The classes of each region, () where the plan has none."""
        return tuple(region.classes for region in self.job.plan.regions)

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of what Dice is measured of on the way: the regions, or the labels of the foreground."""
        return tuple(region.name for region in self.job.plan.regions) or tuple(self.job.plan.labels)[1:]

    @property
    def steps_per_epoch(self) -> int:
        return self.job.recipe.steps_per_epoch

    @property
    def evaluated(self) -> nn.Module:
        """The network whose quality counts."""
        return self.network if self.average is None else self.average

    def elapsed_s(self) -> float:
        """Seconds of training in this process and those before it."""
        return self.elapsed_before_s + self.clock() - self.session_start

    def shared_elapsed_s(self) -> float:
        """`elapsed_s` as the whole team has it, so that all decide alike."""
        return self.elapsed_s() if self.agreed is None else self.agreed.elapsed_s

    def agree(self) -> None:
        """Let the team know how late it is and whether this process was asked to stop, and learn it."""
        team = self.job.team
        if team.is_shared:
            time_s = (self.elapsed_s(), self.last_step_s) if team.leads else (0.0, 0.0)
            elapsed_s, step_s, stops = team.added(np.array([*time_s, float(self.stop.requested)])).tolist()
            self.agreed = Agreement(elapsed_s, step_s, stops > 0)

    def write(self, event: str, **values: Any) -> None:
        """Add an entry to the log."""
        if not self.job.team.leads:
            return
        where = {"event": event, "step": self.state.step, "elapsed_s": round(self.elapsed_s(), 3)}
        append_entry(self.job.folder / LOG, {**where, **values})

    def warn(self, message: str) -> None:
        """Show a warning, log it, and keep it for the result."""
        self.warnings.append(message)
        self.report(f"warning: {message}")
        self.write("warning", message=message)


def start_run(job: TrainingJob, clock: Callable[[], float], report: Callable[[str], None]) -> Run:
    """A run at its first step, or where the folder's latest checkpoint left it.

    Raises CheckpointError where that checkpoint belongs to another plan, recipe, seed or split.
    """
    session_start = clock()
    latest = job.folder / LATEST
    checkpoint = load_checkpoint(latest) if latest.exists() else None
    if checkpoint is not None:
        _check_identity(job, checkpoint, latest)
    if checkpoint is None:
        configuration = trained_configuration(job, clock, report)
    else:
        configuration = divisible(checkpoint.configuration, job.team, report)
    network = _fresh_network(job, configuration)
    if checkpoint is not None:
        origin = checkpoint.metadata.get("encoder_weights")
    else:
        origin = start_encoder(network, job.encoder_weights, report) if job.encoder_weights else None
    step_plan, probe = _step_plan(job, configuration, network, checkpoint, report)
    run = _fresh_run(job, configuration, network, step_plan, clock, report)
    run.step_probe = probe
    run.session_start = run.saved_at = session_start
    run.encoder_weights = origin
    run.augment = _augment(job, checkpoint)
    if checkpoint is not None:
        _restore(run, checkpoint, latest)
    _check_team(run)
    return run


def _check_team(run: Run) -> None:
    """ResourceError where a process of the team is at another place, as of a file system that is not shared."""
    batch, features = run.configuration.batch_size, list(run.configuration.features)
    state = f"step {run.state.step}, batch {batch}, features {features}, {run.step_plan.words()}, {run.augment}"
    run.job.team.check_agreement("training", f"{state}, plan {plan_hash(run.job.plan)}")


def _augment(job: TrainingJob, checkpoint: Checkpoint | None) -> str:
    """Where batches are augmented; a training goes on as it began."""
    return job.augment or (default_augment(job.device) if checkpoint is None else _augment_of(checkpoint))


def _augment_of(checkpoint: Checkpoint) -> str:
    before: str = checkpoint.metadata.get("augment", "workers")  # all there was before there was a choice
    return before


def _step_plan(
    job: TrainingJob,
    configuration: Configuration,
    network: nn.Module,
    checkpoint: Checkpoint | None,
    report: Callable[[str], None],
) -> tuple[StepPlan, Mapping[str, Any]]:
    """How steps are computed: as before the checkpoint, if that was on such a device, else as a probe finds."""
    if checkpoint is None:
        own = replace(configuration, batch_size=job.team.share(configuration.batch_size))
        plan, probe = job.team.told_by_lead(lambda: _as_told(*step_plan_for(job, own, network, report)))
        return step_plan_from_json(plan), probe
    record = checkpoint.metadata.get("step")
    if record is None or record["device"] != job.device.type:
        return unmeasured_plan(job.device), {}
    return step_plan_from_json(record["plan"]), {}


def _as_told(plan: StepPlan, probe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return plan.as_json(), dict(probe)


def _fresh_network(job: TrainingJob, configuration: Configuration) -> nn.Module:
    generator = torch.Generator().manual_seed(job.seed)
    return build_network(configuration, len(job.plan.channels), job.plan.outputs, generator).to(job.device)


def _fresh_run(
    job: TrainingJob,
    configuration: Configuration,
    network: nn.Module,
    step_plan: StepPlan,
    clock: Callable[[], float],
    report: Callable[[str], None],
) -> Run:
    """A run at its first step."""
    recipe = job.recipe
    network = laid_out(network, configuration.dimensions, step_plan)
    if job.team.world > 1:
        network = with_gathered_norms(network, job.device)
    loss = _loss(recipe, configuration, job.plan)
    return Run(
        job=job,
        configuration=configuration,
        network=network,
        average=copy.deepcopy(network).eval() if recipe.average_decay else None,
        forward=LossOf(network, loss, step_plan),
        optimiser=optimiser_of(network, recipe, step_plan),
        loss=loss,
        scaler=torch.amp.GradScaler(job.device.type, enabled=step_plan.dtype == torch.float16),
        step_plan=step_plan,
        state=TrainingState(),
        clock=clock,
        report=report,
    )


def loss_name(recipe: Recipe, plan: Plan) -> str:
    """The name of the loss: the recipe's, but that of regions, which do not exclude each other, where there are any."""
    return REGION_LOSS if plan.regions else recipe.loss


def _loss(recipe: Recipe, configuration: Configuration, plan: Plan) -> SupervisedLoss:
    """The loss at every head of the configuration, and what guidance and rendering learn by."""
    name = loss_name(recipe, plan)
    options = dict(recipe.loss_options) if name == recipe.loss else {}
    loss = build_loss(name, plan.class_weights, configuration.batch_dice, options, plan.instances is not None)
    levels = configuration.row.level_targets
    return SupervisedLoss(
        loss,
        configuration.supervision_weights,
        level_targets=levels if plan.ignore is None else OF_SPARSE_LABELS.get(levels, levels),
        presence_weight=recipe.presence_weight,
        point_weight=recipe.point_weight,
        coarse_weight=recipe.coarse_weight,
        class_order=rarest_first(plan.class_weights),
        regions=[region.classes for region in plan.regions],
    )


def prepare_forward(run: Run) -> None:
    """Let steps call the network as the step's plan has it."""
    if run.job.device.type == "cuda":
        # One shape of batch: the fastest of cuDNN's algorithms for it is looked for once.
        torch.backends.cudnn.benchmark = True
    loss, team = LossOf(forward_of(run.network, run.step_plan), run.loss, run.step_plan), run.job.team
    run.forward = team.averaging(loss, has_unused=_has_unused(run.loss))


def _has_unused(loss: SupervisedLoss) -> bool:
    """Whether something that the network may answer has no part in the loss."""
    return not all((*loss.weights, loss.presence_weight, loss.point_weight, loss.coarse_weight))


def _identity(job: TrainingJob) -> dict[str, Any]:
    """What a checkpoint must agree on to be continued; how long to train may change."""
    recipe = recipe_to_json(job.recipe)
    del recipe["epochs"]
    identity = {
        "plan_hash": plan_hash(job.plan),
        "configuration": job.configuration_name,
        "recipe": recipe,
        "seed": job.seed,
        "fold": job.fold,
        "training_cases": list(job.split.train),
        "validation_cases": list(job.split.validation),
    }
    if (previous := _previous_model(job)) is not None:
        identity["previous_stage"] = previous.place
    return json.loads(json.dumps(identity))


def _check_identity(job: TrainingJob, checkpoint: Checkpoint, path: Path) -> None:
    found = checkpoint.metadata.get("identity", {})
    differing = [key for key, value in _identity(job).items() if found.get(key) != value]
    if job.encoder_weights is not None and checkpoint.metadata.get("encoder_weights") != weights_record(
        job.encoder_weights
    ):
        differing.append("encoder_weights")
    if job.augment not in (None, _augment_of(checkpoint)):
        differing.append("augment")
    if differing:
        raise CheckpointError(
            f"{path}: a training with another {', '.join(differing)} than asked for now. Ask for the same again, "
            "use --restart to begin anew, or move the folder away."
        )


def _restore(run: Run, checkpoint: Checkpoint, path: Path) -> None:
    load_weights(run.network, checkpoint.weights, path)
    if run.average is not None:
        load_weights(run.average, checkpoint.ema_weights or {}, path)
    load_optimiser_tensors(run.optimiser, checkpoint.optimiser)
    state_laid_out(run.optimiser)
    run.state = state_from_json(checkpoint.metadata["state"])
    if run.scaler.is_enabled() and run.state.scaler:
        run.scaler.load_state_dict(run.state.scaler)
    run.elapsed_before_s = run.state.elapsed_s


def save_latest(run: Run) -> None:
    """Write the checkpoint that a later start goes on from."""
    run.state.elapsed_s = run.elapsed_s()
    run.state.scaler = run.scaler.state_dict() if run.scaler.is_enabled() else {}
    run.saved_at = run.clock()
    if not run.job.team.leads:
        return
    checkpoint = Checkpoint(
        weights=run.network.state_dict(),
        ema_weights=None if run.average is None else run.average.state_dict(),
        optimiser=optimiser_tensors(run.optimiser),
        plan=with_configuration(run.job.plan, run.configuration),
        configuration_name=run.configuration.name,
        metadata={**_metadata(run), "state": state_to_json(run.state)},
        previous=_previous_model(run.job),
    )
    save_checkpoint(run.job.folder / LATEST, checkpoint)


def save_final(run: Run) -> None:
    """Write the checkpoint for prediction: only the weights to use."""
    if not run.job.team.leads:
        return
    checkpoint = Checkpoint(
        weights=run.evaluated.state_dict(),
        plan=with_configuration(run.job.plan, run.configuration),
        configuration_name=run.configuration.name,
        metadata={**_metadata(run), "steps": run.state.step, "ended": run.state.finished},
        previous=_previous_model(run.job),
    )
    save_checkpoint(run.job.folder / FINAL, checkpoint)


def _previous_model(job: TrainingJob) -> PreviousModel | None:
    previous = job.previous
    return None if previous is None else PreviousModel.of(job.folder.parent, previous.model, previous.folds)


def _metadata(run: Run) -> dict[str, Any]:
    return {
        "identity": _identity(run.job),
        "changed": changes(run.job.recipe),
        "encoder_weights": run.encoder_weights,
        "augment": run.augment,
        "step": {"device": run.job.device.type, "plan": run.step_plan.as_json()},
        "versions": versions(),
        "averaged": run.average is not None,
    }
