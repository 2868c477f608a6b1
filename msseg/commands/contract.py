"""The contract on cost: `--explain` says what a command will take, `--max-ram` bounds it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from msseg.commands.values import byte_size

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

_LOG = logging.getLogger("msseg")
_DONE = 0

Predict = Callable[["Machine"], "Estimate"]


def add_contract(parser: argparse.ArgumentParser, bounded: bool = False) -> None:
    """`--explain` and `--remeasure`; `bounded` adds `--max-ram`, for commands that can do with less."""
    group = parser.add_argument_group("cost")
    group.add_argument(
        "--explain", action="store_true", help="predict wall time, memory and disk, print them and do nothing"
    )
    group.add_argument(
        "--remeasure", action="store_true", help="with --explain: measure this machine anew (about 10 s)"
    )
    if bounded:
        group.add_argument(
            "--max-ram",
            type=byte_size,
            metavar="SIZE",
            help="stay within so much main memory, all processes together: fewer workers, smaller slabs",
        )
    parser.set_defaults(program=parser.prog)


def under_contract(arguments: argparse.Namespace, predict: Predict, command: Callable[[], int]) -> int:
    """The exit code of `command`; with --explain the prediction instead, and nothing is done.

    With --verbose, on a machine whose profile is there already, the prediction is shown beside what was taken.
    """
    from msseg.machine import measured_machine

    if arguments.explain:
        machine = measured_machine(remeasure=arguments.remeasure)
        from msseg.pipeline.explain import estimate_page

        print(estimate_page(arguments.program, predict(machine), machine))
        return _DONE
    predicted = _predicted(predict) if arguments.verbose else None
    return command() if predicted is None else _compared(arguments.program, predicted, command)


def _predicted(predict: Predict) -> Estimate | None:
    """The prediction where it costs next to nothing; a command that cannot be predicted will say itself why."""
    from msseg.errors import MssegError
    from msseg.machine import known_machine

    try:
        machine = known_machine()
        return None if machine is None else predict(machine)
    except MssegError as error:
        _LOG.debug("no prediction: %s", error)
        return None


def _compared(program: str, predicted: Estimate, command: Callable[[], int]) -> int:
    from msseg.machine.watch import watched
    from msseg.pipeline.explain import comparison

    with watched() as took:
        code = command()
    _LOG.debug("%s: %s", program, comparison(predicted, took.wall_s, took.peak_bytes))
    return code
