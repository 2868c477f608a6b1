"""msseg_convert --from NAME SRC DST: a challenge's folder as a data set folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msseg.commands import console

if TYPE_CHECKING:
    from msseg.challenges.challenge import ConversionOptions
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_convert --from dsb2018 data-science-bowl-2018/ raw/Dataset018_Nuclei
  msseg_convert --from isbi2012 isbi/ raw/Dataset012_Membranes
  msseg_convert --from kits19 kits19/ raw/Dataset019_KiTS
  msseg_convert --from chaos_t1 CHAOS/ raw/Dataset038_CHAOS_T1
  msseg_convert --from dicom studies/ raw/Dataset040_Studies
  msseg_convert --from folder pictures/ raw/Dataset030_Cells --labels cell=255
  msseg_convert --from folder pictures/ raw/Dataset031_Worms --pages images
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where every case of the source is in the data set folder."""
    from msseg.challenges.table import CHALLENGES

    parser = console.make_parser(
        "msseg_convert",
        "Make a data set folder (the layout of nnU-Net v2) of a challenge's data, or of a folder of images beside one\n"
        "of labels. Cases that cannot be taken are named and the others converted; run again, it goes on where it\n"
        "stopped. Folders only: archives have to be unpacked first.",
        EPILOG,
    )
    parser.add_argument("source", metavar="SRC", help="folder as the challenge ships it")
    parser.add_argument("destination", metavar="DST", help="data set folder to write, new or begun by this command")
    parser.add_argument("--from", dest="challenge", required=True, choices=list(CHALLENGES), help="what SRC is")
    parser.add_argument(
        "--labels",
        nargs="+",
        type=_label,
        default=[],
        metavar="NAME=VALUE",
        help="names of the labels' values (default: the challenge's, or one class for every value found)",
    )
    parser.add_argument(
        "--pages",
        choices=("slices", "channels", "images"),
        default="slices",
        help="folder: what the pages of a TIFF are: slices of a volume, channels, or cases of their own; "
        "lidc: images makes a case of each slice with a nodule",
    )
    console.add_workers(parser)
    console.add_executor(parser)
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _label(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value.lstrip("-").isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=VALUE, such as cell=255")
    return name, int(value)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: _convert(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.challenges.conversion import listed
    from msseg.challenges.cost import conversion_cost
    from msseg.challenges.table import find_challenge

    options = _options(arguments)
    listing = listed(find_challenge(arguments.challenge), Path(arguments.source), options)
    return conversion_cost(listing, machine, options.workers)


def _options(arguments: argparse.Namespace) -> ConversionOptions:
    from msseg.challenges.challenge import ConversionOptions
    from msseg.parallel import default_workers

    labels = {name: value for name, value in arguments.labels if (name, value) != ("background", 0)}
    return ConversionOptions(labels, arguments.pages, arguments.workers or default_workers(), arguments.quiet)


def _convert(arguments: argparse.Namespace) -> int:
    from msseg.challenges.conversion import convert
    from msseg.challenges.table import find_challenge

    challenge, destination = find_challenge(arguments.challenge), Path(arguments.destination)
    with console.executor_of(arguments, destination.absolute().parent) as executor:
        report = convert(challenge, Path(arguments.source), destination, _options(arguments), executor)
    return console.conclude(arguments, report.summary(), report.is_complete)
