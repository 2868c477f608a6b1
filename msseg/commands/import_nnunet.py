"""msseg_import_nnunet MODEL_DIR -o OUR_MODEL: a trained nnU-Net v2 model for msseg_predict."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_import_nnunet nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres -o hippocampus/
  msseg_import_nnunet nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres -o heart/ --folds 0 1 --checkpoint best
  msseg_import_nnunet nnUNetTrainer__nnUNetPlans__3d_cascade_fullres -o liver/ --previous-stage 3d_lowres_model/
  msseg_predict -i images/ -o segmentations/ -m hippocampus/
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the model folder is written."""
    parser = console.make_parser(
        "msseg_import_nnunet",
        "Take over a trained nnU-Net v2 model: plans.json, dataset.json and fold_*/checkpoint_final.pth become a\n"
        "model folder that msseg_predict segments with as nnU-Net does. Checkpoints are read as data; nothing in\n"
        "them is run.",
        EPILOG,
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="folder of a trained configuration, which holds plans.json")
    parser.add_argument("-o", "--output", required=True, metavar="OUR_MODEL", help="folder of the model to write")
    parser.add_argument(
        "--folds", nargs="+", metavar="FOLD", help="folds to take, such as 0 1 or all (default: every one)"
    )
    parser.add_argument(
        "--checkpoint",
        choices=("final", "best"),
        default="final",
        help="checkpoint_final.pth, or checkpoint_best.pth as of a training that runs (default: final)",
    )
    parser.add_argument(
        "--previous-stage",
        metavar="DIR",
        help="of a cascade, the folder of its 3d_lowres model (default: the one beside it)",
    )
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _import(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_models import explain_import

    return explain_import(arguments.model, machine, arguments.folds)


def _import(arguments: argparse.Namespace) -> int:
    from msseg.pipeline.import_nnunet import take_over

    report = take_over(
        arguments.model, arguments.output, arguments.folds, arguments.checkpoint, arguments.previous_stage
    )
    console.say(arguments, report.summary())
    return console.EXIT_DONE
