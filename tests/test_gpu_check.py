"""The check of a device runs where packages are missing, as on a machine without a package index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCKED = ("SimpleITK", "nibabel", "cc3d", "batchgenerators", "skimage", "matplotlib", "tqdm")

# Python runs it at its start: the packages are as if they were not installed.
_BLOCKER = f"""
import sys

class Blocked:
    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)

    def find_distributions(self, *arguments):
        for finder in self.finders:
            yield from getattr(finder, "find_distributions", lambda *_: ())(*arguments)

sys.meta_path[:] = [Blocked(list(sys.meta_path))]
"""


def test_without_image_readers_and_batchgenerators_it_says_what_is_missing_and_measures_the_rest(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_BLOCKER)
    report = tmp_path / "report.json"
    command = [sys.executable, "benchmarks/gpu_check.py", "--device", "cpu", "--quick", "--report", str(report)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert {"SimpleITK", "nibabel", "batchgenerators", "connected-components-3d"} <= set(found["missing"])
    assert "pip download" in done.stdout
    assert "missing nibabel: NIfTI files" in done.stdout
    assert [entry["augment"] for entry in found["training"]] == ["device", "device"]
    assert all(entry["iterations_per_s"] > 0 for entry in found["training"])
    assert found["inference"][0]["largest_error_share"] < 1e-3
    assert any("same_segmentation" in left["what"] for left in found["left_out"])
