"""msseg_speeds MODEL: what msseg_predict's presets of speed cost and gain with a trained model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console, values

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_speeds models/Task04_Hippocampus/3d_mss_unet
  msseg_speeds models/Task04_Hippocampus/3d_mss_unet --cases 20 --device cuda
  msseg_speeds imported/3d_plain_unet -t Task04_Hippocampus
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the presets were measured."""
    parser = console.make_parser(
        "msseg_speeds",
        "Measure Dice and time of every preset of msseg_predict --speed on validation cases of a trained model.\n"
        "Written to speeds.json in the model's folder; msseg_predict says it from there.",
        EPILOG,
    )
    parser.add_argument("model", metavar="MODEL", help="model folder, or one fold's folder or checkpoint")
    parser.add_argument(
        "--cases", type=values.positive_int, default=8, metavar="N", help="validation cases of each fold (default: 8)"
    )
    parser.add_argument("-t", "--task", metavar="TASK", help="the task of the cases (default: the model's)")
    console.add_root(parser)
    console.add_device(parser)
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _measure(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_models import explain_speeds

    asked = arguments.task, arguments.root, arguments.cases, arguments.device
    return explain_speeds(arguments.model, machine, *asked)


def _measure(arguments: argparse.Namespace) -> int:
    from msseg.pipeline.speeds import measure_speeds, speeds_table

    measured = measure_speeds(
        arguments.model,
        task=arguments.task,
        root=arguments.root,
        cases=arguments.cases,
        device=arguments.device,
        quiet=arguments.quiet,
    )
    count = measured["exact"].cases
    console.say(arguments, f"{speeds_table(measured)}\n{count} validation cases, {measured['exact'].device}.")
    return console.EXIT_DONE
