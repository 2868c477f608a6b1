import argparse

import pytest

from msseg.commands.values import (
    byte_size,
    device_name,
    distance_mm,
    duration_s,
    key_value,
    not_negative_int,
    positive_int,
    probability,
    share,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("8", 8 * 10**9), ("500MB", 5 * 10**8), ("1.5g", 15 * 10**8), ("8GiB", 2**33)],
)
def test_memory_sizes(text, size):
    assert byte_size(text) == size


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("heads=last", ("heads", "last")),
        ("dropout = 0.5", ("dropout", 0.5)),
        ("head_kernel=1", ("head_kernel", 1)),
        ("unified=true", ("unified", True)),
        ("most_levels=null", ("most_levels", None)),
        ("norm=none", ("norm", "none")),
        ("pattern=a=b", ("pattern", "a=b")),
        ("rate=NaN", ("rate", "NaN")),
    ],
)
def test_pairs_of_a_name_and_a_value(text, pair):
    name, value = key_value(text)
    assert (name, value, type(value)) == (*pair, type(pair[1]))


@pytest.mark.parametrize(("text", "seconds"), [("45m", 2700.0), ("6h", 21600.0), ("90s", 90.0), ("1d", 86400.0)])
def test_durations(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (key_value, "heads"),
        (key_value, "=last"),
        (key_value, "heads="),
        (byte_size, "lots"),
        (byte_size, "0GB"),
        (byte_size, "infGB"),
        (byte_size, "nan"),
        (duration_s, "45"),
        (duration_s, "-1h"),
        (positive_int, "0"),
        (positive_int, "two"),
        (not_negative_int, "-1"),
        (share, "half"),
        (share, "0"),
        (distance_mm, "-1"),
        (distance_mm, "inf"),
        (device_name, "gpu"),
        (device_name, "cuda:x"),
    ],
)
def test_a_malformed_value_is_refused(read, text):
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_device_names(name):
    assert device_name(name) == name


def test_a_probability_is_neither_0_nor_1():
    assert probability("0.35") == 0.35
    for text in ("0", "1", "-0.1", "nan", "half"):
        with pytest.raises(argparse.ArgumentTypeError, match="above 0 and below 1"):
            probability(text)
