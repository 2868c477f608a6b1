from __future__ import annotations

import json
import subprocess
import sys

import pytest

from msseg.commands.plan import main
from planning.plan import plan_from_json


@pytest.fixture
def fingerprint_path(tmp_path):
    """A fingerprint in the shape of the published one, on disk."""
    path = tmp_path / "kits.json"
    intensity = {"median": 93, "mean": 94, "sd": 70, "mn": -707, "mx": 3165}
    value = {
        "axis_order": "(x, y, z)",
        "channels": {"0": "CT"},
        "labels": {"background": 0, "kidney": 1, "tumor": 2},
        "foreground_intensity": {**intensity, "percentile_99_5": 285, "percentile_00_5": -68},
        "cases": [{"shape": [511, 511, 136], "spacing_mm": [0.781625, 0.781625, 3.0]}] * 210,
    }
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_the_plan_goes_to_the_terminal(fingerprint_path, capsys):
    assert main(["--fingerprint", str(fingerprint_path)]) == 0
    plan = plan_from_json(json.loads(capsys.readouterr().out), "terminal")
    assert plan.configurations["3d"].patch_size == (56, 192, 192)


def test_the_plan_goes_to_the_output(fingerprint_path, tmp_path, capsys):
    output = tmp_path / "plans" / "plan.json"
    asked = ["--memory", "16GB", "--network", "plain_unet", "-o", str(output), "-q"]
    assert main(["--fingerprint", str(fingerprint_path), *asked]) == 0
    assert json.loads(output.read_text())["configurations"]["3d"]["patch_size"] == [64, 256, 224]
    assert capsys.readouterr().out == ""


def test_growth_into_the_batch(fingerprint_path, capsys):
    assert main(["--fingerprint", str(fingerprint_path), "--memory", "32GB", "--grow", "batch"]) == 0
    assert json.loads(capsys.readouterr().out)["configurations"]["3d"]["batch_size"] == 8


def test_explain_prints_the_page_instead(fingerprint_path, capsys):
    assert main(["--fingerprint", str(fingerprint_path), "--explain"]) == 0
    assert "Configuration 3d\n----" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "not valid JSON"),
        ("[]", "expected a fingerprint, a JSON object"),
        ("{}", "version: found None, expected 1"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, capsys, content, message):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert main(["--fingerprint", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(path) in error and message in error


def test_output_that_nobody_reads_to_its_end_is_no_traceback(fingerprint_path):
    code = "import sys; from msseg.commands.plan import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--fingerprint", str(fingerprint_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert error == "msseg_plan: stopped, as its output was closed.\n"


def test_an_unknown_network_lists_the_known_ones(fingerprint_path, capsys):
    assert main(["--fingerprint", str(fingerprint_path), "--network", "u_net"]) == 1
    assert "expected one of mss_unet, plain_unet" in capsys.readouterr().err
