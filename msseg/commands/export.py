"""msseg_export MODEL -o model.onnx: a trained network for other programs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_export models/Task04_Hippocampus/3d_mss_unet -o hippocampus.onnx
  msseg_export models/Task04_Hippocampus/3d_unet2p -o hippocampus.onnx --fold 2 --mode fast
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the file is written and agrees with the network."""
    parser = console.make_parser(
        "msseg_export",
        "Write one fold's network as ONNX: preprocessed patches in, full-resolution logits out.\n"
        "The file is checked with onnxruntime before it is put in place. Needs the extra: pip install 'msseg[onnx]'.",
        EPILOG,
    )
    parser.add_argument("model", metavar="MODEL", help="model folder")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the ONNX file")
    parser.add_argument("--fold", metavar="FOLD", help="which fold's network (default: the first trained)")
    parser.add_argument(
        "--mode",
        choices=("accurate", "fast"),
        default="accurate",
        help="the mean of all branches of full resolution, or the main one (default: accurate)",
    )
    parser.add_argument("-t", "--task", metavar="TASK", help="the task of the real input (default: the model's)")
    console.add_root(parser)
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _export(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_models import explain_export

    return explain_export(arguments.model, machine, arguments.fold)


def _export(arguments: argparse.Namespace) -> int:
    from msseg.pipeline.export import export_onnx

    report = export_onnx(
        arguments.model,
        arguments.output,
        fold=arguments.fold,
        branches=arguments.mode,
        task=arguments.task,
        root=arguments.root,
    )
    console.say(arguments, report.summary())
    return console.EXIT_DONE
