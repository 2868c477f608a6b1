from __future__ import annotations

from pathlib import Path

import pytest

from msseg.commands import train as command
from msseg.pipeline import training
from msseg.training.recipes import RECIPES


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of the pipeline: the options of each call."""
    calls = []

    class Report:
        complete = True

        def summary(self) -> str:
            return "done"

    def train(task, fold, **arguments):
        calls.append((task, fold, arguments["options"]))
        return Report()

    monkeypatch.setattr(training, "train", train)
    return calls


def test_the_recipes_named_in_the_help_are_those_of_the_table():
    assert tuple(RECIPES) == command.RECIPE_NAMES


def test_network_options_encoder_and_single_values_reach_the_training(asked):
    words = "4 0 --network unet --network-option most_levels=3 --encoder vgg16 --encoder-weights w.pth --recipe render"
    assert command.main([*words.split(), "--set", "learning_rate=1e-3", "--set", "loss_options.mode=focal"]) == 0
    ((task, fold, options),) = asked
    assert (task, fold) == ("4", "0")
    assert options.network == "unet"
    assert options.network_options == {"most_levels": 3, "encoder": "vgg16"}
    assert options.encoder_weights == Path("w.pth")
    assert options.overrides == {"learning_rate": 1e-3, "loss_options.mode": "focal"}
    recipe = options.used_recipe()
    assert (recipe.name, recipe.learning_rate, recipe.loss_options) == ("render", 1e-3, (("mode", "focal"),))


def test_without_words_the_plan_and_the_recipe_decide(asked):
    assert command.main(["4", "all"]) == 0
    options = asked[0][2]
    assert (options.network, options.network_options, options.overrides) == (None, {}, {})
    assert options.used_recipe() == RECIPES["mss"]


def test_a_word_without_a_value_is_refused(asked, capsys):
    with pytest.raises(SystemExit):
        command.main(["4", "0", "--set", "epochs"])
    assert "expected KEY=VALUE" in capsys.readouterr().err
    assert asked == []


def test_a_wrong_value_is_one_line_that_says_what_is_expected(tmp_path, capsys):
    code = command.main(["4", "0", "--root", str(tmp_path), "--set", "learnin_rate=1"])
    assert code == 1
    assert "--set learnin_rate: found 'learnin_rate', expected one of" in capsys.readouterr().err
