"""What every command shares: its frame of errors, signals, verbosity and exit codes, and the common options."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from msseg.commands.contract import add_contract as add_contract
from msseg.commands.contract import under_contract as under_contract
from msseg.commands.values import byte_size, device_name, key_value, positive_int
from msseg.errors import MssegError

if TYPE_CHECKING:
    from concurrent.futures import Executor

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

DECIDE_BY = ("dice", "mean_dice", "iou", "accuracy", "object_f1", "dsb2018", "none")  # msseg.pipeline.decisions.METRICS

_LOG = logging.getLogger("msseg")
Command = Callable[[argparse.Namespace], int]


class _Terminated(KeyboardInterrupt):
    """SIGTERM, unwound like Ctrl-C so that files and workers are left in order."""


def run(parser: argparse.ArgumentParser, command: Command, argv: list[str] | None) -> int:
    """The exit code of `command`: 0 only where everything asked for was done; errors become one line."""
    arguments = parser.parse_args(argv)
    _set_up_logging(arguments)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with _resources_logged(parser.prog):
            return command(arguments)
    except MssegError as error:
        return _failed(parser.prog, error, str(error), arguments)
    except MemoryError as error:
        return _failed(parser.prog, error, "memory ran out. Use fewer --workers or a smaller --memory.", arguments)
    except BrokenPipeError:
        return _unread(parser.prog)
    except OSError as error:
        return _failed(parser.prog, error, _describe(error), arguments)
    except KeyboardInterrupt:
        return stopped(parser.prog)
    finally:
        signal.signal(signal.SIGTERM, before)


def stopped(program: str) -> int:
    """The exit code of a command that somebody stopped, and the line that says so."""
    print(f"{program}: stopped. Run the same command again to go on.", file=sys.stderr)
    return EXIT_INTERRUPTED


def make_parser(program: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser with the options that every command has."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    voice = parser.add_mutually_exclusive_group()
    voice.add_argument("-v", "--verbose", action="store_true", help="say more: decisions, files, time and memory taken")
    voice.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", help="folder of raw/, preprocessed/, models/ (default: $MSSEG_ROOT or ./msseg_data)")


def add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="data set folder, or a name or number below --root")


def add_workers(parser: argparse.ArgumentParser, what: str = "worker processes (default: one a core)") -> None:
    parser.add_argument("--workers", type=positive_int, metavar="N", help=what)


def add_executor(parser: argparse.ArgumentParser) -> None:
    """`--executor`; `executor_of` makes it from the arguments."""
    parser.add_argument(
        "--executor",
        default="processes",
        metavar="WHERE",
        help="who works on the cases: processes of this machine (default), or dask://HOST:PORT, a cluster's workers",
    )


def executor_of(
    arguments: argparse.Namespace, folder: str | Path
) -> contextlib.AbstractContextManager[Executor | None]:
    """The executor that was asked for, for a command that writes into `folder`; None for processes."""
    from msseg.executors import PROCESSES, executor_from

    if arguments.executor != PROCESSES and getattr(arguments, "max_ram", None) is not None:
        raise MssegError(
            "--max-ram: bounds the processes of this machine, not a cluster's. "
            "Leave it out and start the workers with --memory-limit."
        )
    return executor_from(arguments.executor, folder)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", type=device_name, default="auto", metavar="DEVICE", help="auto|cpu|cuda|cuda:N|mps (default: auto)"
    )


def add_unused_device(parser: argparse.ArgumentParser) -> None:
    """`--device` for a step that only the CPU does, so that every step takes the same options."""
    parser.add_argument(
        "--device", type=device_name, metavar="DEVICE", help="taken as in every command; this step runs on the CPU"
    )


def add_planning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory",
        type=byte_size,
        metavar="SIZE",
        help="what training may take (default: 8GB; resenc_l 24GB, resenc_xl 40GB)",
    )
    add_network(parser)
    parser.add_argument("--grow", choices=("patch", "batch"), help="what more memory buys (default: patch)")
    known = "3d, 2d, 2.5d, and 3d_lowres and 3d_cascade where a patch sees too little"
    parser.add_argument("--configuration", metavar="NAME", help=f"{known} (default: the planner's choice)")


def add_network(parser: argparse.ArgumentParser, default: str = "the planner's choice") -> None:
    """`--network`, `--network-option` and `--encoder`; `network_options` reads the last two."""
    from planning.network_row import CHOICES
    from planning.networks import NETWORKS

    parser.add_argument("--network", metavar="NAME", help=f"{', '.join(NETWORKS)} (default: {default})")
    parser.add_argument(
        "--network-option",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value in the network's row, such as heads=last; may be given again",
    )
    parser.add_argument("--encoder", metavar="NAME", help=f"{', '.join(CHOICES['encoder'])} (default: the network's)")


def network_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--network-option` and `--encoder` replace in the network's row; the last word on a value counts."""
    options = dict(arguments.network_option)
    return options if arguments.encoder is None else {**options, "encoder": arguments.encoder}


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """What is written beside label maps, or in their place."""
    parser.add_argument("--instances", action="store_true", help="write objects, numbered from 1, instead of labels")
    parser.add_argument(
        "--save-probabilities",
        type=int,
        nargs="?",
        choices=(8, 16),
        const=16,
        metavar="BITS",
        help="write CASE.probabilities.npz beside each label map, in 8 or 16 bits (default: 16)",
    )


def add_decide_by(parser: argparse.ArgumentParser, where: str) -> None:
    parser.add_argument(
        "--decide-by",
        choices=DECIDE_BY,
        metavar="METRIC",
        help=f"{', '.join(DECIDE_BY)}: what thresholds of a single label are chosen by {where} (default: dsb2018 "
        "for numbered objects, dice for images, none for volumes)",
    )


def add_group_by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by",
        metavar="PATTERN",
        help="regular expression whose match in a case name is the patient, such as 'patient\\d+': no patient is split",
    )


def hush(arguments: argparse.Namespace) -> None:
    """Keep a process quiet beside another that says the same."""
    arguments.quiet, arguments.verbose = True, False
    _LOG.setLevel(logging.ERROR)


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print `text` unless the user asked for quiet."""
    if not arguments.quiet:
        print(text, flush=True)


def conclude(arguments: argparse.Namespace, summary: str, complete: bool) -> int:
    """The exit code of a command that ran to its end; quiet keeps back the summary of what succeeded alone."""
    if not arguments.quiet:
        print(summary, flush=True)
    elif not complete:
        print(summary, file=sys.stderr, flush=True)
    return EXIT_DONE if complete else EXIT_FAILED


@contextlib.contextmanager
def _resources_logged(program: str) -> Iterator[None]:
    """For --verbose: what runs, and at the end the time it took and the most memory this process held."""
    _LOG.debug("%s on Python %s, %s", program, platform.python_version(), platform.platform())
    start = time.monotonic()
    try:
        yield
    finally:
        from msseg.progress import format_duration

        _LOG.debug("%s: %s%s", program, format_duration(time.monotonic() - start), _peak_memory())


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f", at most {peak / 1e9:.2f} GB of memory in the main process"


def _set_up_logging(arguments: argparse.Namespace) -> None:
    level = logging.ERROR if arguments.quiet else logging.DEBUG if arguments.verbose else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _LOG.setLevel(level)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _describe(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}. Check that the place exists, may be read and written, and has room."


def _unread(program: str) -> int:
    """For output that nobody reads to its end (`| head`): what is still buffered must not raise again at the exit."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    print(f"{program}: stopped, as its output was closed.", file=sys.stderr)
    return EXIT_FAILED


def _failed(program: str, error: BaseException, message: str, arguments: argparse.Namespace) -> int:
    if arguments.traceback:
        import traceback

        traceback.print_exception(error)
    print(f"{program}: error: {message}", file=sys.stderr)
    return EXIT_FAILED
