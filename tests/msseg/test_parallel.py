import os
import signal
import subprocess
import sys

import pytest

from msseg.errors import ResourceError
from msseg.parallel import map_cases


def square(number):
    if number == 3:
        raise ValueError("three is refused")
    return number * number


def square_unless_killed(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_fails_harms_no_other(workers):
    outcomes = dict(map_cases(square, [1, 2, 3, 4], workers))
    assert {item: outcome.value for item, outcome in outcomes.items()} == {1: 1, 2: 4, 3: None, 4: 16}
    assert isinstance(outcomes[3].error, ValueError)


def test_a_killed_worker_costs_only_the_item_that_killed_it():
    outcomes = dict(map_cases(square_unless_killed, [1, 2, 3, 4, 5], 2))
    assert {item: outcome.value for item, outcome in outcomes.items()} == {1: 1, 2: None, 3: 9, 4: 16, 5: 25}
    assert isinstance(outcomes[2].error, ResourceError)
    assert "2: the worker process that handled it was killed" in str(outcomes[2].error)


def test_no_items_give_no_outcomes():
    assert list(map_cases(square, [], 2)) == []


def test_any_executor_of_the_standard_interface_serves():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        outcomes = dict(map_cases(square, list(range(20)), 2, executor=pool))
    assert sorted(outcomes) == list(range(20))
    assert outcomes[19].value == 361


SLOW = """
import signal
import time

from msseg.parallel import map_cases


def nap(seconds):
    time.sleep(seconds)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    for seconds, _ in map_cases(nap, [0, 600, 600, 600, 600], 2):
        print(seconds, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent_in_the_middle_of_an_item(tmp_path, number):
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"0\n"
    process.send_signal(number)
    process.communicate(timeout=60)  # ends when nobody holds the other end of the pipe, no worker either
    assert process.returncode == -number


TORN = """
import os
import time
from multiprocessing.connection import Connection

from msseg.parallel import case_executor


def dies_in_mid_result():
    Connection._send = lambda self, data, write=os.write: (os.write(self.fileno(), data[: len(data) // 2]), os._exit(1))


if __name__ == "__main__":
    with case_executor(1) as pool:
        pool.submit(dies_in_mid_result)
        time.sleep(2)
        raise KeyError("in the block")
"""


def test_a_worker_that_ends_in_the_middle_of_a_result_does_not_keep_a_failed_block_from_ending(tmp_path):
    script = tmp_path / "torn.py"
    script.write_text(TORN)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "in the block" in done.stderr
