import json
import math

import pytest

from planning.costs.machine import interpolated, machine_from_json, machine_to_json
from planning.errors import PlanError


def test_a_machine_survives_json(make_machine):
    machine = make_machine()
    text = json.dumps(machine_to_json(machine), allow_nan=False)
    assert machine_from_json(json.loads(text), "profile") == machine


def test_an_unlimited_copy_to_the_device_is_null_in_json(make_machine):
    value = machine_to_json(make_machine())
    assert value["cpu"]["to_device_bytes_per_s"] is None
    assert math.isinf(machine_from_json(value, "profile").cpu.to_device_bytes_per_s)


@pytest.mark.parametrize("value", [None, {}, {"version": 0}])
def test_a_profile_of_another_version_is_refused(value):
    with pytest.raises(PlanError, match="profile: version"):
        machine_from_json(value, "profile")


def test_a_profile_that_lacks_something_is_refused(make_machine):
    value = machine_to_json(make_machine())
    del value["cases"]["case_overhead_s"]
    with pytest.raises(PlanError, match="case_overhead_s"):
        machine_from_json(value, "profile")


@pytest.mark.parametrize(("width", "rate"), [(4, 1.0), (8, 1.0), (16, 2.0), (32, 4.0), (64, 4.0)])
def test_between_two_widths_the_rate_lies_on_the_line_of_powers_and_beyond_it_stays(width, rate):
    assert interpolated(width, [(32.0, 4.0), (8.0, 1.0)]) == pytest.approx(rate)
