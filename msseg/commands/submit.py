"""msseg_submit --challenge NAME -i pred/ -o FILE: a challenge's submission file, checked before it is put in place."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msseg.commands import console

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_predict -i raw/Dataset018_Nuclei/imagesTs -o pred/ --instances
  msseg_submit --challenge dsb2018 -i pred/ -o submission.csv -r stage1_test/
  msseg_predict -i raw/Dataset012_Membranes/imagesTs -o pred/ --save-probabilities
  msseg_submit --challenge isbi2012 -i pred/ -o submission.tif
  msseg_submit --challenge dsb2018 --check submission.csv -r stage1_test/
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the submission is in its place, or the file that was checked has no fault."""
    parser = console.make_parser(
        "msseg_submit",
        "Write a challenge's submission file from a folder of predictions. The file is checked before it is put in\n"
        "place: nothing appears where it has a fault. --check FILE checks a file alone, whoever wrote it.",
        EPILOG,
    )
    parser.add_argument("--challenge", required=True, metavar="NAME", help="dsb2018 or isbi2012")
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("-i", "--input", metavar="DIR", help="folder of predictions")
    work.add_argument("--check", metavar="FILE", help="check this file and write nothing")
    parser.add_argument("-o", "--output", metavar="FILE", help="the submission to write")
    parser.add_argument("-r", "--images", metavar="DIR", help="the challenge's images: tell names and sizes")
    parser.add_argument(
        "--masks",
        choices=("auto", "instances", "semantic"),
        default="auto",
        help="dsb2018: what a mask's values are: object numbers, or one value for all (default: auto, said)",
    )
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    work = _check if arguments.check else _submit
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: work(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.challenges.cost import submission_cost

    return submission_cost(arguments.input or arguments.check, machine)


def _images(arguments: argparse.Namespace) -> Path | None:
    return Path(arguments.images) if arguments.images else None


def _submit(arguments: argparse.Namespace) -> int:
    from msseg.challenges.challenge import SubmissionOptions
    from msseg.challenges.submission import submit
    from msseg.challenges.table import find_challenge
    from msseg.errors import DatasetError

    if not arguments.output:
        raise DatasetError("-i without -o: expected the name of the file to write. Name it with -o.")
    options = SubmissionOptions(_images(arguments), arguments.masks)
    report = submit(find_challenge(arguments.challenge), Path(arguments.input), Path(arguments.output), options)
    console.say(arguments, report.summary())
    return console.EXIT_DONE


def _check(arguments: argparse.Namespace) -> int:
    from msseg.challenges.challenge import faults_text
    from msseg.challenges.submission import check_submission
    from msseg.challenges.table import find_challenge

    faults = check_submission(find_challenge(arguments.challenge), Path(arguments.check), _images(arguments))
    unchecked = "" if arguments.images else " Names and sizes of images were not checked: give them with -r."
    summary = faults_text(faults) if faults else f"{arguments.check}: no fault found.{unchecked}"
    return console.conclude(arguments, summary, not faults)
