import pytest

from msseg.progress import format_duration, progress, progress_line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (125, "2 min 05 s"), (11_520, "3 h 12 min")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert format_duration(seconds) == text


def test_a_line_gives_rate_and_time_left():
    assert progress_line("predict", 5, 20, 10.0, "case") == "predict: 5/20 cases, 0.50 cases/s, 30 s left"
    assert progress_line("predict", 20, 20, 40.0, "case") == "predict: 20/20 cases, 0.50 cases/s, 40 s"


def test_a_log_gets_a_plain_line_when_all_is_done(capsys):
    assert list(progress([1, 2, 3], "read")) == [1, 2, 3]
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert written.startswith("read: 3/3 cases, ")
    assert "\r" not in written


def test_quiet_says_nothing(capsys):
    assert list(progress(iter([1, 2]), "read", total=2, quiet=True)) == [1, 2]
    assert capsys.readouterr().err == ""
