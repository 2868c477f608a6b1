"""msseg_train TASK FOLD: train one fold, validate it, go on where an earlier run stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msseg.commands import console, values

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_train Task04_Hippocampus 0
  msseg_train 4 0 --budget 45m
  msseg_train 4 all --recipe nnunet --epochs 300 --device cuda:1
  msseg_train 4 0 --network unet_sharp --network-option most_levels=2
  msseg_train 4 0 --network unet --encoder vgg16 --encoder-weights vgg16.pth --configuration 2d
  msseg_train 4 0 --recipe unet_sharp --set learning_rate=3e-4 --set loss_options.alpha=0.5
"""


# The own tables of decisions and recipes would load numpy and torch.
DECIDE_BY = ("dice", "mean_dice", "iou", "accuracy", "object_f1", "dsb2018", "none")
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
    parser.add_argument("fold", metavar="FOLD", help="0, 1, 2, 3, 4, or `all` to train on every case")
    console.add_root(parser)
    console.add_workers(parser, "processes that make batches and evaluate (default: one a core)")
    console.add_device(parser)
    parser.add_argument("--configuration", help="which of the plan's configurations (default: the plan's choice)")
    console.add_network(parser, default="the plan's")
    parser.add_argument(
        "--encoder-weights", type=Path, metavar="FILE", help="weights that the encoder of a new training starts from"
    )
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
    length.add_argument("--budget", type=values.duration_s, metavar="TIME", help="all of it within 45m, 6h, …")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and augmentation (default: 0)")
    parser.add_argument(
        "--augment",
        choices=("workers", "device"),
        help="where batches are augmented: by worker processes, or by torch where the network trains (default: device)",
    )
    parser.add_argument(
        "--decide-by",
        choices=DECIDE_BY,
        metavar="METRIC",
        help=f"{', '.join(DECIDE_BY)}: what thresholds of a single label are chosen by on validation (default: dsb2018 "
        "for numbered objects, dice for images, none for volumes)",
    )
    parser.add_argument("--restart", action="store_true", help="forget what was trained before")
    console.add_group_by(parser)
    console.add_contract(parser, bounded=True)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _train(arguments))


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
    )
    return explain_training(
        arguments.task,
        arguments.fold,
        machine,
        wish,
        arguments.root,
        arguments.device,
        arguments.workers,
        arguments.max_ram,
    )


def _train(arguments: argparse.Namespace) -> int:
    from msseg.interrupts import stop_on_signals
    from msseg.pipeline.training import TrainingOptions, train

    with stop_on_signals() as stop:
        report = train(
            arguments.task,
            arguments.fold,
            root=arguments.root,
            options=TrainingOptions(
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
            ),
            device=arguments.device,
            workers=arguments.workers,
            quiet=arguments.quiet,
            stop=stop,
            max_ram=arguments.max_ram,
        )
    code = console.conclude(arguments, report.summary(), report.complete)
    return console.EXIT_INTERRUPTED if stop.requested else code
