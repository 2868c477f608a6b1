import argparse
import os
import signal

import pytest

from msseg.commands.console import byte_size, duration_s, make_parser, positive_int, run
from msseg.errors import DatasetError


def run_with(command, argv=()):
    return run(make_parser("msseg_test", "A test."), command, list(argv))


def fail(_arguments):
    raise DatasetError("a.nii.gz: found nothing, expected an image. Copy it again.")


def test_an_error_is_one_line_and_a_non_zero_exit_code(capsys):
    assert run_with(fail) == 1
    expected = "msseg_test: error: a.nii.gz: found nothing, expected an image. Copy it again.\n"
    assert capsys.readouterr().err == expected


def test_traceback_shows_where_an_error_came_from(capsys):
    assert run_with(fail, ["--traceback"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_sigterm_stops_cleanly_with_an_exit_code_of_its_own(capsys):
    assert run_with(lambda _arguments: os.kill(os.getpid(), signal.SIGTERM)) == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_a_full_disk_is_said_in_one_line(capsys):
    def write(_arguments):
        raise OSError(28, "No space left on device", "/data/x.npy")

    assert run_with(write) == 1
    assert "/data/x.npy: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("8", 8 * 10**9), ("500MB", 5 * 10**8), ("1.5g", 15 * 10**8), ("8GiB", 2**33)],
)
def test_memory_sizes(text, size):
    assert byte_size(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("45m", 2700.0), ("6h", 21600.0), ("90s", 90.0), ("1d", 86400.0)])
def test_durations(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("read", "text"),
    [(byte_size, "lots"), (byte_size, "0GB"), (duration_s, "45"), (duration_s, "-1h"), (positive_int, "0")],
)
def test_a_malformed_value_is_refused(read, text):
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)
