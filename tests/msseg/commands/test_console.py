import os
import signal

import pytest

from msseg.commands.console import add_device, conclude, make_parser, run
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


def test_a_malformed_option_is_said_in_its_own_words(capsys):
    parser = make_parser("msseg_test", "A test.")
    add_device(parser)
    with pytest.raises(SystemExit) as stop:
        run(parser, lambda _arguments: 0, ["--device", "gpu"])
    assert stop.value.code == 2
    assert "gpu: expected auto, cpu, cuda, cuda:N or mps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "complete", "printed"),
    [
        ([], True, ("done\n", "")),
        ([], False, ("done\n", "")),
        (["-q"], True, ("", "")),
        (["-q"], False, ("", "done\n")),
    ],
)
def test_quiet_keeps_back_nothing_that_failed(capsys, argv, complete, printed):
    code = run_with(lambda arguments: conclude(arguments, "done", complete), argv)
    assert code == (0 if complete else 1)
    assert tuple(capsys.readouterr()) == printed


def test_verbose_ends_with_the_time_and_memory_it_took(caplog):
    assert run_with(lambda _arguments: 0, ["-v"]) == 0
    assert "msseg_test: 0 s" in caplog.messages[-1]
