"""msseg_prune MODEL --level auto|1..4: a smaller model from the branches of a nested network."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console, values

if TYPE_CHECKING:
    from msseg.pipeline.pruning import PruningOptions
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_prune models/Task04_Hippocampus/3d_unet2p --level auto
  msseg_prune models/Task04_Hippocampus/3d_unet2p --level auto --tolerance 0.01 --mode fast
  msseg_prune models/Task04_Hippocampus/3d_unet2p/fold_0 --level 2 -o small/
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the pruned model is written."""
    parser = console.make_parser(
        "msseg_prune",
        "Cut a trained network of a nested or sharp grid to a level: a smaller model that answers as its branch did.\n"
        "`--level auto` measures Dice, parameters, time and memory of every level on the validation cases.",
        EPILOG,
    )
    parser.add_argument("model", metavar="MODEL", help="model folder, or one fold's folder or checkpoint")
    parser.add_argument("--level", type=_level, required=True, metavar="LEVEL", help="auto, or 1, 2, 3, …")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder of the pruned model (default: MODEL_levelN)")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.005,
        metavar="DICE",
        help="auto: how far below the best level's mean Dice the kept one may be (default: 0.005)",
    )
    parser.add_argument(
        "--mode",
        choices=("accurate", "fast"),
        default="accurate",
        help="auto: predict with the mean of a level's branches, or with its deepest alone (default: accurate)",
    )
    parser.add_argument("--mirroring", action="store_true", help="auto: show each tile in all mirrored views")
    parser.add_argument(
        "--cases", type=values.positive_int, metavar="N", help="auto: the first N validation cases of each fold alone"
    )
    parser.add_argument("-t", "--task", metavar="TASK", help="auto: the task of the cases (default: the model's)")
    console.add_root(parser)
    console.add_device(parser)
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _level(text: str) -> int | None:
    """The level, None for auto."""
    if text == "auto":
        return None
    try:
        return values.positive_int(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text}: expected auto or a level such as 2") from None


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a difference in Dice, such as 0.005")
    return value


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _prune(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_models import explain_pruning

    options = _options(arguments)
    return explain_pruning(arguments.model, machine, options, arguments.task, arguments.root, arguments.device)


def _options(arguments: argparse.Namespace) -> PruningOptions:
    from msseg.pipeline.pruning import PruningOptions

    return PruningOptions(
        level=arguments.level,
        tolerance=arguments.tolerance,
        branches=arguments.mode,
        mirror=arguments.mirroring,
        cases=arguments.cases,
    )


def _prune(arguments: argparse.Namespace) -> int:
    from msseg.pipeline.pruning import prune

    report = prune(
        arguments.model,
        arguments.output,
        _options(arguments),
        task=arguments.task,
        root=arguments.root,
        device=arguments.device,
        quiet=arguments.quiet,
    )
    console.say(arguments, report.summary())
    return console.EXIT_DONE
