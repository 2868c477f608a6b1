"""msseg_ensemble -i DIR DIR … -o DIR: average saved probabilities into one segmentation a case."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console, values

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_predict -i images/ -o first/ -m models/Task04_Hippocampus/3d_mss_unet --save-probabilities
  msseg_predict -i images/ -o second/ -m models/Task04_Hippocampus/2d_plain_unet --save-probabilities
  msseg_ensemble -i first/ second/ -o segmentations/
  msseg_ensemble -i first/ second/ third/ --weights 2 1 1 -o segmentations/ --save-probabilities 8
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where every case has its segmentation."""
    parser = console.make_parser(
        "msseg_ensemble",
        "Average the probabilities that msseg_predict --save-probabilities left in folders, case by case. The folders\n"
        "must hold the same cases, of the same labels, on the same grids.",
        EPILOG,
    )
    parser.add_argument("-i", "--input", nargs="+", required=True, metavar="DIR", help="folders of probabilities")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the segmentations")
    parser.add_argument("--weights", nargs="+", type=float, metavar="W", help="one a folder (default: all alike)")
    parser.add_argument(
        "--threshold",
        type=values.probability,
        metavar="P",
        help="probability above which a model of one label finds it, or each region of a model of such is painted "
        "(default: the most probable class, of regions 0.5)",
    )
    console.add_outputs(parser)
    parser.add_argument("--overwrite", action="store_true", help="average again what is there already")
    console.add_workers(parser, "processes that average (default: 1)")
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _average(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_ensemble import explain_ensemble

    return explain_ensemble(arguments.input, arguments.output, machine, arguments.workers or 1)


def _average(arguments: argparse.Namespace) -> int:
    from msseg.pipeline.ensemble import EnsembleOptions, ensemble, threshold_decision

    options = EnsembleOptions(
        weights=tuple(arguments.weights) if arguments.weights else None,
        decision=threshold_decision(arguments.threshold),
        instances=arguments.instances,
        probability_bits=arguments.save_probabilities,
    )
    report = ensemble(
        arguments.input,
        arguments.output,
        options,
        overwrite=arguments.overwrite,
        workers=arguments.workers or 1,
        quiet=arguments.quiet,
    )
    return console.conclude(arguments, report.summary(arguments.output), report.is_complete)
