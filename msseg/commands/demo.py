"""msseg_demo: the whole line on an embedded synthetic data set, in about five minutes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console, values

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

DEFAULT_ROOT = "msseg_demo"
DEFAULT_BUDGET = "4m"


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where every step ran and every test case was evaluated."""
    parser = console.make_parser(
        "msseg_demo",
        "Write a synthetic data set of CT-like volumes with kidneys and tumours, or with --cells of microscopy images\n"
        "of touching nuclei, then plan, train, predict, evaluate and draw. About five minutes on two CPU cores. Run\n"
        "again, it goes on where it stopped.",
    )
    parser.add_argument("--cells", action="store_true", help="nuclei in 2D images, each an object of its own")
    parser.add_argument("--root", default=DEFAULT_ROOT, help=f"folder for everything (default: ./{DEFAULT_ROOT})")
    parser.add_argument(
        "--budget", type=values.duration_s, default=DEFAULT_BUDGET, help=f"training time (default: {DEFAULT_BUDGET})"
    )
    parser.add_argument("--cases", type=values.positive_int, default=20, help="training cases (default: 20)")
    console.add_workers(parser)
    console.add_device(parser)
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _show(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_models import explain_demo

    return explain_demo(machine, arguments.budget, arguments.cases, arguments.workers, arguments.cells)


def _show(arguments: argparse.Namespace) -> int:
    from msseg.evaluation.tables import evaluation_table
    from msseg.interrupts import stop_on_signals
    from msseg.pipeline.demo import DEMOS, run_demo

    with stop_on_signals() as stop:
        result = run_demo(
            arguments.root,
            arguments.budget,
            training_cases=arguments.cases,
            device=arguments.device,
            workers=arguments.workers,
            quiet=arguments.quiet,
            stop=stop,
            announce=lambda line: console.say(arguments, line),
            demo=DEMOS["cells" if arguments.cells else "abdomen"],
        )
    if result.evaluation is None:
        return console.stopped("msseg_demo")
    code = console.conclude(arguments, evaluation_table(result.evaluation), result.evaluation.complete)
    console.say(arguments, "Pictures: " + ", ".join(str(path) for path in result.pictures))
    return code
