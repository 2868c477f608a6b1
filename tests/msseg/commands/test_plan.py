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


def test_reasons_print_the_page_instead(fingerprint_path, capsys):
    assert main(["--fingerprint", str(fingerprint_path), "--reasons"]) == 0
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
    assert "expected one of unet, wunet, unet2p" in capsys.readouterr().err


def test_options_of_the_network_are_planned_with(fingerprint_path, capsys):
    asked = ["--network", "unet_sharp", "--network-option", "heads=last", "--network-option", "dropout=0.2"]
    assert main(["--fingerprint", str(fingerprint_path), *asked]) == 0
    plan = plan_from_json(json.loads(capsys.readouterr().out), "terminal")
    for configuration in plan.configurations.values():
        assert configuration.network_options == {"heads": "last", "dropout": 0.2}
        assert configuration.supervision_weights == (1.0,)


def test_an_encoder_is_an_option_of_the_network(fingerprint_path, capsys):
    assert main(["--fingerprint", str(fingerprint_path), "--network", "unet", "--encoder", "vgg16", "--reasons"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "network_options: encoder=vgg16" in said
    assert "Configuration 3d" not in said


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--network-option", "gird=sharp"], "network option: found 'gird', expected one of base_features, grid"),
        (["--network-option", "grid=round"], "network option grid: found 'round', expected one of plain, nested"),
        (["--encoder", "vgg11"], "network option encoder: found 'vgg11', expected one of blocks, vgg16, resnet101"),
    ],
)
def test_an_unknown_option_or_value_lists_the_known_ones(fingerprint_path, capsys, asked, message):
    assert main(["--fingerprint", str(fingerprint_path), "--network", "unet", *asked]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_an_option_without_a_value_is_a_usage_error(fingerprint_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--fingerprint", str(fingerprint_path), "--network-option", "heads"])
    assert stop.value.code == 2
    assert "heads: expected KEY=VALUE, such as heads=last" in capsys.readouterr().err


def test_a_larger_residual_encoder_is_planned_for_its_own_memory(fingerprint_path, capsys):
    assert main(["--fingerprint", str(fingerprint_path), "--network", "resenc_l"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["memory_bytes"] == 24 * 10**9
    assert written["configurations"]["3d"]["patch_size"] == [80, 256, 256]
