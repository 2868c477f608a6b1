from __future__ import annotations

import json

import pytest

from msseg.commands.networks import main
from planning.networks import NETWORKS
from planning.plan import plan_to_json


def test_the_table_has_a_line_for_every_network(capsys):
    assert main([]) == 0
    table = capsys.readouterr().out
    names = [line.split()[0] for line in table.split("\n\n")[0].splitlines()]
    assert names == ["name", *NETWORKS]
    assert "on a batch of 2 patches of 256 x 256, channels 1, classes 2" in table
    assert max(map(len, table.splitlines())) <= 160


def test_json_has_the_printed_number_of_parameters_for_one_channel_and_two_classes(capsys):
    assert main(["--json"]) == 0
    figures = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    # One channel instead of the paper's three: 576 fewer; a second class: 33 more.
    assert figures["unet"]["parameters"] == 7_852_545 - 576 + 33
    assert figures["unet2p"]["pruning_levels"] == [1, 2, 3, 4]
    assert figures["unet3p"]["pruning_levels"] == []
    assert figures["unet_sharp"]["supervised"] == 8


def test_a_plan_sets_patch_batch_channels_and_classes(make_plan, make_configuration, tmp_path, capsys):
    plan = make_plan(make_configuration(patch_size=(16, 16, 16), batch_size=3))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_to_json(plan)))
    assert main(["--plan", str(path)]) == 0
    assert "on a batch of 3 patches of 16 x 16 x 16, channels 1, classes 2" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--configuration", "4d"], ["--plan", "missing.json"]])
def test_what_is_not_there_is_refused(arguments, capsys):
    assert main(arguments) == 1
    assert "expected" in capsys.readouterr().err or "missing.json" in arguments
