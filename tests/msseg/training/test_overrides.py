from __future__ import annotations

import json
from dataclasses import replace

import pytest

from msseg.errors import MssegError, PlanError
from msseg.training.overrides import changes, overridden
from msseg.training.recipes import RECIPES, recipe_named, recipe_to_json


def test_text_becomes_the_kind_that_the_field_has():
    row = overridden(
        recipe_named("mss"),
        {
            "learning_rate": "1e-3",
            "weight_decay": "0",
            "epochs": "7",
            "batch_size": "4",
            "base_features": "null",
            "schedule": "cosine",
        },
    )
    assert (row.learning_rate, row.weight_decay, row.epochs, row.batch_size) == (1e-3, 0.0, 7, 4)
    assert isinstance(row.weight_decay, float)
    assert row.base_features is None
    assert row.schedule == "cosine"
    assert row.loss == recipe_named("mss").loss


def test_values_that_were_read_already_are_taken_as_they_are():
    row = overridden(recipe_named("mss"), {"learning_rate": 1, "epochs": 2, "plateau": None})
    assert (row.learning_rate, row.epochs, row.plateau) == (1.0, 2, None)


def test_a_dot_leads_into_the_options_of_optimiser_and_loss_and_into_the_plateau():
    row = overridden(
        recipe_named("mss"),
        {
            "optimiser_options.betas": "[0.9, 0.99]",
            "loss": "hybrid",
            "loss_options.alpha": ".75",
            "loss_options.mode": "focal",
            "plateau.patience": "5",
        },
    )
    assert dict(row.optimiser_options) == {"amsgrad": True, "betas": (0.9, 0.99)}
    assert dict(row.loss_options) == {"alpha": 0.75, "mode": "focal"}
    assert row.plateau == replace(recipe_named("mss").plateau, patience=5)
    assert overridden(recipe_named("nnunet"), {"plateau.patience": 5}).plateau.patience == 5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rte", "1", r"--set learning_rte: found 'learning_rte', expected one of optimiser, learning_rate"),
        ("name", "mine", r"--set name: found 'name', expected one of optimiser"),
        ("learning_rate", "fast", r"found 'fast', expected a number of at least 0"),
        ("learning_rate", "NaN", r"expected a number of at least 0"),
        ("learning_rate", "true", r"found True, expected a number"),
        ("epochs", "2.5", r"found 2.5, expected a whole number of at least 1"),
        ("epochs", "0", r"found 0, expected a whole number of at least 1"),
        ("batch_size", "many", r"found 'many', expected null or a whole number of at least 1"),
        ("foreground_share", "2", r"found 2, expected a number from 0 to 1"),
        ("optimiser", "lion", r"found 'lion', expected one of adam, adamw, muon, sgd"),
        ("loss", "[]", r"found \[\], expected one of "),
        ("optimiser_options", "{}", r"optimiser_options\.NAME"),
        ("plateau.patients", "3", r"expected one of plateau\.smoothing"),
        ("plateau", "3", r"found 3, expected null, or plateau\.NAME"),
        ("learning_rate.x", "3", r"found 'learning_rate\.x'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(key, value, message):
    with pytest.raises(MssegError, match=message):
        overridden(recipe_named("mss"), {key: value})


def test_another_optimiser_leaves_the_options_of_the_rows_own_behind_in_any_order():
    row = overridden(recipe_named("mss"), {"optimiser_options.momentum": 0.9, "optimiser": "sgd"})
    assert (row.optimiser, row.optimiser_options) == ("sgd", (("momentum", 0.9),))
    same = overridden(recipe_named("mss"), {"optimiser": "adam"})
    assert same == recipe_named("mss")


def test_an_option_that_the_loss_does_not_have_is_refused_before_anything_is_read():
    with pytest.raises(PlanError, match="option of loss dice_ce"):
        overridden(recipe_named("nnunet"), {"loss_options.alpha": 1})


def test_changes_are_what_differs_from_the_row():
    assert changes(recipe_named("budget")) == {}
    row = overridden(recipe_named("budget"), {"learning_rate": "0.01", "optimiser_options.eps": "1e-6"})
    assert changes(row) == {"learning_rate": 0.01, "optimiser_options": {"betas": (0.9, 0.99), "eps": 1e-6}}
    assert changes(replace(row, name="of nobody")) == {}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_value_of_a_row_may_be_given_again(name):
    row = RECIPES[name]
    values = recipe_to_json(row)
    simple = {
        key: value for key, value in values.items() if not isinstance(value, dict) and key not in ("name", "plateau")
    }
    rule = {f"plateau.{key}": value for key, value in (values["plateau"] or {}).items()}
    again = {**simple, **rule}
    assert overridden(row, again) == row
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in again.items()}
    assert overridden(row, texts) == row
