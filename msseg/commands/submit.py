"""msseg_submit --challenge NAME -i pred/ -o FILE: a challenge's submission file, checked before it is put in place.

--check FILE checks a file alone; --container DIR -m MODEL writes what a container for Grand Challenge is built from.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msseg.commands import console
from msseg.commands.values import probability

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_predict -i raw/Dataset018_Nuclei/imagesTs -o pred/ --instances
  msseg_submit --challenge dsb2018 -i pred/ -o submission.csv -r stage1_test/
  msseg_predict -i raw/Dataset012_Membranes/imagesTs -o pred/ --save-probabilities
  msseg_submit --challenge isbi2012 -i pred/ -o submission.tif
  msseg_submit --challenge kits19 -i pred/ -o predictions.zip -r kits19/data/
  msseg_submit --check predictions.zip -r kits19/data/
  msseg_submit --container container/ -m models/3d_unet --channels ct --slug kidney-tumour
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the submission is in its place, or the file that was checked has no fault."""
    parser = console.make_parser(
        "msseg_submit",
        "Write a challenge's submission file from a folder of predictions. The file is checked before it is put in\n"
        "place: nothing appears where it has a fault. --check FILE checks a file alone, whoever wrote it;\n"
        "--container DIR writes a folder from which Docker builds a container for Grand Challenge.",
        EPILOG,
    )
    parser.add_argument("--challenge", metavar="NAME", help="kits19, decathlon, … (default with --check: by the file)")
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("-i", "--input", metavar="DIR", help="folder of predictions")
    work.add_argument("--check", metavar="FILE", help="check this file and write nothing")
    work.add_argument("--container", metavar="DIR", help="write a container's folder here, for the model of -m")
    parser.add_argument("-o", "--output", metavar="FILE", help="the submission to write")
    parser.add_argument("-r", "--images", metavar="DIR", help="the challenge's images: tell names and sizes")
    _add_of_challenges(parser)
    _add_container(parser)
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _add_of_challenges(parser: argparse.ArgumentParser) -> None:
    """What single challenges ask beside."""
    parser.add_argument(
        "--masks",
        choices=("auto", "instances", "semantic"),
        default="auto",
        help="dsb2018: what a mask's values are: object numbers, or one value for all (default: auto, said)",
    )
    parser.add_argument(
        "--threshold",
        type=probability,
        default=0.1,
        metavar="P",
        help="luna16, lidc: a candidate is where the probability is above P (default: 0.1)",
    )
    parser.add_argument(
        "--score", choices=("max", "mean"), default="max", help="luna16, lidc: a candidate's probability (default: max)"
    )


def _add_container(parser: argparse.ArgumentParser) -> None:
    """What a container's folder is made of."""
    parser.add_argument("-m", "--model", metavar="PATH", help="--container: a model folder, or an inference.json")
    parser.add_argument(
        "--channels", nargs="+", default=[], metavar="SLUG", help="--container: the input of each channel, in order"
    )
    parser.add_argument(
        "--slug", default="segmentation", metavar="SLUG", help="--container: the output's (default: segmentation)"
    )


def _run(arguments: argparse.Namespace) -> int:
    work = _container if arguments.container else _check if arguments.check else _submit
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: work(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.challenges.cost import container_cost, submission_cost

    if arguments.container:
        from msseg.challenges.container import model_files

        return container_cost(list(model_files(_model(arguments)).values()), machine)
    return submission_cost(arguments.input or arguments.check, machine)


def _model(arguments: argparse.Namespace) -> Path:
    from msseg.errors import DatasetError

    if not arguments.model:
        raise DatasetError("--container without -m: expected a model folder or an inference.json. Name it with -m.")
    return Path(arguments.model)


def _images(arguments: argparse.Namespace) -> Path | None:
    return Path(arguments.images) if arguments.images else None


def _submit(arguments: argparse.Namespace) -> int:
    from msseg.challenges.challenge import SubmissionOptions
    from msseg.challenges.submission import submit
    from msseg.challenges.table import find_challenge
    from msseg.errors import DatasetError

    if not arguments.output:
        raise DatasetError("-i without -o: expected the name of the file to write. Name it with -o.")
    if not arguments.challenge:
        raise DatasetError("-i without --challenge: expected what the file is for. Name it with --challenge.")
    options = SubmissionOptions(_images(arguments), arguments.masks, arguments.threshold, arguments.score)
    report = submit(find_challenge(arguments.challenge), Path(arguments.input), Path(arguments.output), options)
    console.say(arguments, report.summary())
    return console.EXIT_DONE


def _check(arguments: argparse.Namespace) -> int:
    from msseg.challenges.challenge import faults_text
    from msseg.challenges.guess import guess_challenge
    from msseg.challenges.submission import check_submission
    from msseg.challenges.table import find_challenge

    path = Path(arguments.check)
    challenge = find_challenge(arguments.challenge) if arguments.challenge else guess_challenge(path)
    faults = check_submission(challenge, path, _images(arguments))
    guessed = "" if arguments.challenge else f"{path}: taken for a submission to {challenge.name}.\n"
    unchecked = "" if arguments.images else " Names and sizes of images were not checked: give them with -r."
    summary = faults_text(faults) if faults else f"{path}: no fault found.{unchecked}"
    return console.conclude(arguments, guessed + summary, not faults)


def _container(arguments: argparse.Namespace) -> int:
    from msseg.challenges.container import write_container

    folder = write_container(Path(arguments.container), _model(arguments), arguments.channels, arguments.slug)
    console.say(arguments, f"{folder}: written. Build it there with: docker build -t segmentation .")
    return console.EXIT_DONE
