"""msseg_train TASK FOLD: train one fold, validate it, go on where an earlier run stopped."""

from __future__ import annotations

import argparse

from msseg.commands import console, values

EPILOG = """\
examples:
  msseg_train Task04_Hippocampus 0
  msseg_train 4 0 --budget 45m
  msseg_train 4 all --recipe nnunet --epochs 300 --device cuda:1
"""


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
    parser.add_argument("--network", help="a network other than the plan's")
    parser.add_argument("--recipe", help="mss, nnunet or budget (default: budget with --budget, else mss)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=values.positive_int, metavar="N", help="number of epochs")
    length.add_argument("--budget", type=values.duration_s, metavar="TIME", help="all of it within 45m, 6h, …")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and augmentation (default: 0)")
    parser.add_argument("--restart", action="store_true", help="forget what was trained before")
    console.add_group_by(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
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
                recipe=arguments.recipe,
                epochs=arguments.epochs,
                budget_s=arguments.budget,
                seed=arguments.seed,
                restart=arguments.restart,
                group_by=arguments.group_by,
            ),
            device=arguments.device,
            workers=arguments.workers,
            quiet=arguments.quiet,
            stop=stop,
        )
    code = console.conclude(arguments, report.summary(), report.complete)
    return console.EXIT_INTERRUPTED if stop.requested else code
