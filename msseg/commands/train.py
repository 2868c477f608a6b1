"""msseg_train TASK FOLD: train one fold, validate it, go on where an earlier run stopped."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msseg.commands import console, values
from msseg.processes import Processes, processes_in

if TYPE_CHECKING:
    from msseg.interrupts import StopRequest
    from msseg.pipeline.folds import FoldsReport
    from msseg.pipeline.training import TrainingReport
    from msseg.pipeline.training_options import TrainingOptions
    from msseg.training.distributed import Team
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_train Task04_Hippocampus 0
  msseg_train 4 0 --budget 45m
  msseg_train 4 all-folds --budget 45m
  msseg_train 4 all --recipe nnunet --epochs 300 --device cuda:1
  torchrun --nproc-per-node 4 -m msseg.commands.train 4 0
  msseg_train 4 0 --network unet_sharp --network-option most_levels=2
  msseg_train 4 0 --network unet --encoder vgg16 --encoder-weights vgg16.pth --configuration 2d
  msseg_train 3 all-folds --configuration 3d_cascade
  msseg_train 4 0 --recipe unet_sharp --set learning_rate=3e-4 --set loss_options.alpha=0.5
"""


ALL_FOLDS = "all-folds"  # msseg.pipeline.folds, which loads torch
# The own table of recipes would load torch.
RECIPE_NAMES = ("mss", "nnunet", "budget", "render", "unet_sharp", "unet_school")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the fold is trained and, unless it is `all`, validated."""
    parser = console.make_parser(
        "msseg_train",
        "Train a network on one fold of a preprocessed data set and evaluate it on the fold's validation cases.\n"
        "Stopped and started again, it goes on by itself.",
        EPILOG,
    )
    console.add_task(parser)
    parser.add_argument(
        "fold", metavar="FOLD", help="0, 1, 2, 3, 4; `all-folds`: one after another; `all`: one network on every case"
    )
    console.add_root(parser)
    console.add_workers(parser, "processes that make batches and evaluate (default: one a core)")
    console.add_device(parser)
    parser.add_argument("--configuration", help="which of the plan's configurations (default: the plan's choice)")
    console.add_network(parser, default="the plan's")
    parser.add_argument(
        "--encoder-weights", type=Path, metavar="FILE", help="weights that the encoder of a new training starts from"
    )
    parser.add_argument(
        "--previous-stage",
        type=Path,
        metavar="MODEL_DIR",
        help="first model of a cascade (default: the one of the plan's network for 3d_lowres)",
    )
    _add_recipe(parser)
    console.add_decide_by(parser, "on validation")
    parser.add_argument("--restart", action="store_true", help="forget what was trained before")
    console.add_group_by(parser)
    console.add_contract(parser, bounded=True)
    return console.run(parser, _run, argv)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """How it is trained and how long."""
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"{', '.join(RECIPE_NAMES)} (default: budget with --budget, else mss)"
    )
    parser.add_argument(
        "--set",
        type=values.key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value in the recipe, such as learning_rate=1e-3; may be given again",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=values.positive_int, metavar="N", help="number of epochs")
    length.add_argument(
        "--budget", type=values.duration_s, metavar="TIME", help="all of it within 45m, 6h, …; each fold"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and augmentation (default: 0)")
    parser.add_argument(
        "--augment",
        choices=("workers", "device"),
        help="where batches are augmented: by worker processes, or by torch where the network trains (default: device)",
    )


def _run(arguments: argparse.Namespace) -> int:
    processes = processes_in(os.environ)
    if processes is not None and processes.rank > 0:
        if arguments.explain:
            return console.EXIT_DONE
        console.hush(arguments)
    return console.under_contract(
        arguments, lambda machine: _cost(arguments, machine), lambda: _train(arguments, processes)
    )


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_training import TrainingWish, explain_training

    wish = TrainingWish(
        configuration=arguments.configuration,
        network=arguments.network,
        network_options=console.network_options(arguments),
        recipe=arguments.recipe,
        overrides=dict(arguments.set),
        epochs=arguments.epochs,
        budget_s=arguments.budget,
        group_by=arguments.group_by,
        augment=arguments.augment,
        previous_stage=arguments.previous_stage,
    )
    asked = arguments.root, arguments.device, arguments.workers, arguments.max_ram
    if arguments.fold == ALL_FOLDS:
        from msseg.pipeline.explain_folds import explain_all_folds

        return explain_all_folds(arguments.task, machine, wish, *asked)
    return explain_training(arguments.task, arguments.fold, machine, wish, *asked)


def _train(arguments: argparse.Namespace, processes: Processes | None) -> int:
    from msseg.interrupts import stop_on_signals
    from msseg.training.distributed import joined

    with stop_on_signals() as stop, joined(processes, arguments.device, stop) as team:
        report = (_train_all_folds if arguments.fold == ALL_FOLDS else _train_fold)(arguments, stop, team)
    if team.leads:
        code = console.conclude(arguments, report.summary(), report.complete)
    else:
        code = console.EXIT_DONE if report.complete else console.EXIT_FAILED
    return console.EXIT_INTERRUPTED if stop.requested else code


def _train_fold(arguments: argparse.Namespace, stop: StopRequest, team: Team) -> TrainingReport:
    from msseg.pipeline.training import train

    options = _options(arguments)
    return train(arguments.task, arguments.fold, options=options, stop=stop, team=team, **_common(arguments))


def _train_all_folds(arguments: argparse.Namespace, stop: StopRequest, team: Team) -> FoldsReport:
    from msseg.pipeline.folds import train_all_folds

    def say(line: str) -> None:
        console.say(arguments, line)

    options = _options(arguments)
    return train_all_folds(arguments.task, options=options, stop=stop, say=say, team=team, **_common(arguments))


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("root", "device", "workers", "quiet", "max_ram")}


def _options(arguments: argparse.Namespace) -> TrainingOptions:
    from msseg.pipeline.training_options import TrainingOptions

    return TrainingOptions(
        configuration=arguments.configuration,
        network=arguments.network,
        network_options=console.network_options(arguments),
        encoder_weights=arguments.encoder_weights,
        recipe=arguments.recipe,
        overrides=dict(arguments.set),
        epochs=arguments.epochs,
        budget_s=arguments.budget,
        seed=arguments.seed,
        restart=arguments.restart,
        group_by=arguments.group_by,
        augment=arguments.augment,
        decide_by=arguments.decide_by,
        previous_stage=arguments.previous_stage,
    )


if __name__ == "__main__":  # for torchrun, which starts a module or a file
    raise SystemExit(main())
