"""msseg_networks: the networks there are, and what each would cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from msseg.commands import console

if TYPE_CHECKING:
    from planning.overview import NetworkFigures
    from planning.plan import Configuration

EPILOG = """\
examples:
  msseg_networks
  msseg_networks --configuration 3d -v
  msseg_networks --plan msseg_data/preprocessed/Task04_Hippocampus/plan.json
"""
_COLUMNS = (
    "name", "network", "year", "dims", "levels", "parameters", "multiply-adds", "training", "supervised", "prune to",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the table was printed."""
    parser = console.make_parser(
        "msseg_networks",
        "Print the table of networks: parameters, multiply-adds of one sample and predicted memory of a training step\n"
        "on the plan's patch and batch; without a plan, on two patches of 256 x 256 (or 64 x 64 x 64) voxels.",
        EPILOG,
    )
    parser.add_argument("--plan", type=Path, metavar="FILE", help="a plan.json")
    parser.add_argument("--configuration", metavar="NAME", help="2d or 3d (default: the plan's choice; 2d without one)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from planning.costs.short import networks_estimate

    return console.under_contract(arguments, networks_estimate, lambda: _print(arguments))


def _print(arguments: argparse.Namespace) -> int:
    from planning.networks import NETWORKS
    from planning.overview import network_figures

    configuration, in_channels, num_classes = _configuration(arguments)
    figures = [network_figures(row, configuration, in_channels, num_classes) for row in NETWORKS.values()]
    if arguments.json:
        print(json.dumps([asdict(one) for one in figures], indent=2, allow_nan=False))
        return console.EXIT_DONE
    print(_table([_COLUMNS, *(_cells(one) for one in figures)]))
    patch = " x ".join(map(str, configuration.patch_size))
    print(
        f"\non a batch of {configuration.batch_size} patches of {patch}, channels {in_channels}, classes {num_classes}"
    )
    if arguments.verbose:
        print("\n" + _table([("name", "source"), *((one.name, one.source) for one in figures)]))
    return console.EXIT_DONE


def _configuration(arguments: argparse.Namespace) -> tuple[Configuration, int, int]:
    """The configuration to measure on, its channels and its classes."""
    from msseg.errors import PlanError
    from msseg.files import read_json
    from planning.overview import reference_configuration
    from planning.plan import plan_from_json

    if arguments.plan is None:
        known = {"2d": 2, "3d": 3}
        name = arguments.configuration or "2d"
        if name not in known:
            raise PlanError(f"--configuration: found {name!r}, expected one of {', '.join(known)}.")
        return reference_configuration(known[name]), 1, 2
    plan = plan_from_json(read_json(arguments.plan, PlanError), str(arguments.plan))
    name = arguments.configuration or plan.default_configuration
    if name not in plan.configurations:
        raise PlanError(f"{arguments.plan}: has no configuration {name!r}, only {', '.join(plan.configurations)}.")
    return plan.configurations[name], len(plan.channels), plan.outputs


def _cells(figures: NetworkFigures) -> tuple[str, ...]:
    levels = figures.pruning_levels
    return (
        figures.name,
        figures.title,
        str(figures.year),
        f"{figures.dimensions}D",
        str(figures.levels),
        f"{figures.parameters:,}",
        f"{figures.multiply_adds / 1e9:,.2f} G",
        f"{figures.memory_bytes / 1e9:,.2f} GB",
        str(figures.supervised),
        f"{levels[0]}-{levels[-1]}" if levels else "-",
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: names to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = 2
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
