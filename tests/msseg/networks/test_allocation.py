from __future__ import annotations

import platform
import subprocess
import sys


def test_glibc_takes_the_options_and_other_libraries_are_left_alone() -> None:
    code = "from msseg.networks.allocation import keep_freed_memory; print(keep_freed_memory())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
