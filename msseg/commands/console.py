"""What every command shares: its frame of errors, signals, verbosity and exit codes, and the common options."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType

from msseg.errors import MssegError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

Command = Callable[[argparse.Namespace], int]


class _Terminated(KeyboardInterrupt):
    """SIGTERM, unwound like Ctrl-C so that files and workers are left in order."""


def run(parser: argparse.ArgumentParser, command: Command, argv: list[str] | None) -> int:
    """The exit code of `command`: 0 only where everything asked for was done; errors become one line."""
    arguments = parser.parse_args(argv)
    _set_up_logging(arguments)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return command(arguments)
    except MssegError as error:
        return _failed(parser.prog, error, str(error), arguments)
    except MemoryError as error:
        return _failed(parser.prog, error, "memory ran out. Use fewer --workers or a smaller --memory.", arguments)
    except OSError as error:
        return _failed(parser.prog, error, _describe(error), arguments)
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped. Run the same command again to go on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def make_parser(program: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser with the options that every command has."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    voice = parser.add_mutually_exclusive_group()
    voice.add_argument("-v", "--verbose", action="store_true", help="say more")
    voice.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", help="folder of raw/, preprocessed/, models/ (default: $MSSEG_ROOT or ./msseg_data)")


def add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="data set folder, or a name or number below --root")


def add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=positive_int, metavar="N", help="worker processes (default: one a core)")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto|cpu|cuda|cuda:N|mps (default: auto)")


def add_planning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--memory", type=byte_size, metavar="SIZE", help="what training may take (default: 8GB)")
    parser.add_argument("--network", help="network to plan for (default: the planner's choice)")
    parser.add_argument("--grow", choices=("patch", "batch"), help="what more memory buys (default: patch)")


def add_group_by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by",
        metavar="PATTERN",
        help="regular expression whose match in a case name is the patient, such as 'patient\\d+': no patient is split",
    )


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return value


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0 and at most 1")
    return value


_BYTE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "GIB": 2**30, "MIB": 2**20}


def byte_size(text: str) -> int:
    """Bytes of `8GB`, `500MB`, `8GiB` or a bare number of GB."""
    number = text.strip().upper().rstrip("BGIKMT")
    unit = text.strip().upper()[len(number) :] or "GB"
    unit = unit if unit.endswith("B") else f"{unit}B"
    try:
        size = int(float(number) * _BYTE_UNITS[unit])
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text}: expected a size such as 8GB") from None
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a size above zero")
    return size


_SECONDS = {"S": 1.0, "M": 60.0, "H": 3600.0, "D": 86400.0}


def duration_s(text: str) -> float:
    """Seconds of `45m`, `6h`, `90s` or `1d`."""
    number, unit = text.strip()[:-1], text.strip()[-1:].upper()
    try:
        seconds = float(number) * _SECONDS[unit]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text}: expected a duration such as 45m or 6h") from None
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a duration above zero")
    return seconds


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print `text` unless the user asked for quiet."""
    if not arguments.quiet:
        print(text, flush=True)


def _set_up_logging(arguments: argparse.Namespace) -> None:
    level = logging.ERROR if arguments.quiet else logging.DEBUG if arguments.verbose else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("msseg").setLevel(level)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _describe(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}. Check that the place exists, has room and may be written."


def _failed(program: str, error: BaseException, message: str, arguments: argparse.Namespace) -> int:
    if arguments.traceback:
        import traceback

        traceback.print_exception(error)
    print(f"{program}: error: {message}", file=sys.stderr)
    return EXIT_FAILED
