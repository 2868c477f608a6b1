"""msseg_evaluate -p pred/ -r ref/: compare segmentations with references."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from msseg.commands import console, values

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_evaluate -p segmentations/ -r labelsTs/
  msseg_evaluate -p segmentations/ -r labelsTs/ --labels '{"kidney": 1, "tumour": 2}' --tolerance-mm 2
  msseg_evaluate -p objects/ -r instances/ --instances
  msseg_evaluate -p segmentations/ -r labelsTs/ --challenge kits23
  msseg_evaluate -p candidates.csv -r annotations.csv --challenge luna16
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where every reference had a prediction and every pair was measured."""
    parser = console.make_parser(
        "msseg_evaluate",
        "Dice, Jaccard, accuracy, precision, recall, Hausdorff, HD95, ASSD and NSD per label and case; of numbered\n"
        "objects also F1, DSB2018's score, aggregated Jaccard index and panoptic quality.\n"
        "Writes evaluation.json and evaluation.csv into the folder of the predictions, and prints a table.",
        EPILOG,
    )
    parser.add_argument(
        "-p", "--predictions", required=True, metavar="DIR", help="folder of segmentations, or a challenge's one file"
    )
    parser.add_argument("-r", "--references", required=True, metavar="DIR", help="folder of reference labels, or file")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the JSON goes (the CSV beside it)")
    parser.add_argument(
        "--challenge", metavar="NAME", help="measure and average as this challenge ranks too: its regions and metrics"
    )
    _add_measuring(parser)
    parser.add_argument("--images", metavar="DIR", help="folder of the images, to draw the worst, median and best case")
    parser.add_argument("--pictures", metavar="DIR", help="where the pictures go (default: pictures/ beside the JSON)")
    console.add_workers(parser)
    console.add_executor(parser)
    console.add_unused_device(parser)
    console.add_contract(parser, bounded=True)
    return console.run(parser, _run, argv)


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how."""
    parser.add_argument(
        "--labels",
        type=_labels,
        metavar="JSON",
        help="names and values, `ignore` for what nobody annotated (default: from dataset.json)",
    )
    parser.add_argument(
        "--tolerance-mm",
        type=values.distance_mm,
        default=1.0,
        metavar="MM",
        help="tolerance of the NSD (default: 1 mm)",
    )
    parser.add_argument(
        "--distance",
        choices=("euclidean", "manhattan"),
        default="euclidean",
        help="how distances between surfaces are taken (default: euclidean)",
    )
    parser.add_argument(
        "--instances",
        action=argparse.BooleanOptionalAction,
        help="the files number objects, which are matched one by one (default: as the references' dataset.json says)",
    )


def _labels(text: str) -> dict[str, int | list[int]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or not all(_is_label(numbers) for numbers in value.values()):
        raise argparse.ArgumentTypeError(f'{text}: expected JSON such as {{"kidney": [1, 2], "tumour": 2}}')
    return value


def _is_label(value: object) -> bool:
    numbers = value if isinstance(value, list) and value else [value]
    return all(isinstance(number, int) for number in numbers)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.challenge and Path(arguments.predictions).is_file():
        return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _score(arguments))
    return console.under_contract(arguments, lambda machine: _predict(arguments, machine), lambda: _evaluate(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.challenges.cost import submission_cost

    return submission_cost(arguments.predictions, machine)


def _score(arguments: argparse.Namespace) -> int:
    from msseg.evaluation.challenge_files import file_score_table
    from msseg.pipeline.evaluation import score_file

    score = score_file(arguments.challenge, arguments.predictions, arguments.references, arguments.output)
    return console.conclude(arguments, file_score_table(score), complete=True)


def _predict(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_evaluation import explain_evaluation

    asked = arguments.labels, arguments.workers, arguments.max_ram
    return explain_evaluation(arguments.predictions, arguments.references, machine, *asked)


def _evaluate(arguments: argparse.Namespace) -> int:
    from msseg.errors import DatasetError
    from msseg.evaluation.tables import evaluation_table
    from msseg.pipeline.evaluation import draw_pictures, evaluate

    if arguments.pictures and not arguments.images:
        raise DatasetError("--pictures: found no --images, expected the folder of the images to draw on. Name it.")
    with console.executor_of(arguments, arguments.output or arguments.predictions) as executor:
        evaluation = evaluate(
            arguments.predictions,
            arguments.references,
            labels=arguments.labels,
            tolerance_mm=arguments.tolerance_mm,
            output=arguments.output,
            workers=arguments.workers,
            executor=executor,
            quiet=arguments.quiet,
            max_ram=arguments.max_ram,
            instances=arguments.instances,
            distance=arguments.distance,
            challenge=arguments.challenge,
        )
    code = console.conclude(arguments, evaluation_table(evaluation), evaluation.complete)
    if arguments.images:
        beside = Path(arguments.output).parent if arguments.output else Path(arguments.predictions)
        folder = arguments.pictures or beside / "pictures"
        drawn = draw_pictures(evaluation, arguments.images, arguments.predictions, arguments.references, folder)
        console.say(arguments, "Pictures: " + ", ".join(str(path) for path in drawn))
    return code
