"""msseg_find_best TASK: all trained models and their pairs on cases that they have not seen, and the best of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console, values

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_train 4 all-folds --budget 45m
  msseg_train 4 all-folds --budget 45m --configuration 2d
  msseg_find_best 4
  msseg_find_best 4 --challenge decathlon --prefer highest
"""

PREFERENCES = ("simplest", "highest")  # msseg.evaluation.comparison.CHOICES, which loads numpy


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the best model is found and written down."""
    parser = console.make_parser(
        "msseg_find_best",
        "Compare every trained model of a task whose folds leave out all cases, and every pair of them, on the cases\n"
        "that each fold left out; decide on postprocessing; write inference.json for msseg_predict --inference.",
        EPILOG,
    )
    console.add_task(parser)
    console.add_root(parser)
    console.add_workers(parser, "processes that look at cases (default: one a core)")
    console.add_executor(parser)
    console.add_device(parser)
    parser.add_argument(
        "--challenge", metavar="NAME", help="rank as this challenge does (default: mean Dice; objects by their metric)"
    )
    parser.add_argument(
        "--prefer",
        choices=PREFERENCES,
        default=PREFERENCES[0],
        help="simplest: the fewest models that cannot be told from the best; highest: the highest figure "
        "(default: simplest)",
    )
    parser.add_argument("--no-ensembles", action="store_true", help="compare single models alone")
    parser.add_argument(
        "--draws",
        type=values.positive_int,
        default=1000,
        metavar="N",
        help="cases drawn again so often (default: 1000)",
    )
    console.add_decide_by(parser, "on the other folds")
    console.add_contract(parser, bounded=True)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _find(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_find_best import explain_find_best

    asked = arguments.root, arguments.device, arguments.workers, not arguments.no_ensembles, arguments.max_ram
    return explain_find_best(arguments.task, machine, *asked)


def _find(arguments: argparse.Namespace) -> int:
    from msseg.folders import find_task, project_root
    from msseg.interrupts import stop_on_signals
    from msseg.pipeline.find_best import FindBestOptions, find_best

    models = find_task(arguments.task, project_root(arguments.root)).models
    with console.executor_of(arguments, models) as executor, stop_on_signals() as stop:
        report = find_best(
            arguments.task,
            root=arguments.root,
            options=FindBestOptions(
                challenge=arguments.challenge,
                prefer=arguments.prefer,
                ensembles=not arguments.no_ensembles,
                draws=arguments.draws,
                decide_by=arguments.decide_by,
            ),
            device=arguments.device,
            workers=arguments.workers,
            quiet=arguments.quiet,
            stop=stop,
            max_ram=arguments.max_ram,
            executor=executor,
        )
    code = console.conclude(arguments, report.summary(), not report.stopped)
    return console.EXIT_INTERRUPTED if stop.requested else code
