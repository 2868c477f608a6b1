from __future__ import annotations

import pytest

from msseg.training.schedules import (
    Plateau,
    PlateauRule,
    after_epoch,
    budget_progress,
    constant,
    cosine,
    has_settled,
    poly,
)


def test_poly_is_nnunets_power_of_what_is_left():
    assert poly(0.0, 0.0) == 1.0
    assert poly(0.5, 0.0) == pytest.approx(0.5**0.9)
    assert poly(1.0, 0.0) == 0.0


def test_cosine_rises_over_the_warmup_and_falls_to_zero():
    assert cosine(0.0, 0.1) == 0.0
    assert cosine(0.05, 0.1) == pytest.approx(0.5)
    assert cosine(0.1, 0.1) == pytest.approx(1.0)
    assert cosine(0.55, 0.1) == pytest.approx(0.5)
    assert cosine(1.0, 0.1) == pytest.approx(0.0)


def test_constant_stays():
    assert constant(0.3, 0.0) == constant(1.0, 0.0) == 1.0


def test_past_the_end_a_rate_is_zero_and_not_complex():
    assert poly(1.2, 0.0) == 0.0
    assert cosine(1.2, 0.1) == pytest.approx(0.0)


def test_the_rate_falls_after_patience_epochs_without_improvement():
    rule = PlateauRule(smoothing=0.0, patience=3, factor=0.2)
    plateau = Plateau()
    scales = []
    for loss in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        plateau = after_epoch(plateau, rule, loss)
        scales.append(plateau.scale)
    # The first epoch sets the best; three without improvement later the rate falls, and the count starts anew.
    assert scales == pytest.approx([1, 1, 1, 0.2, 0.2, 0.2, 0.04])


def test_an_improvement_smaller_than_the_threshold_does_not_count():
    rule = PlateauRule(smoothing=0.0, patience=2, threshold=1e-3)
    plateau = Plateau()
    for loss in (1.0, 0.9995, 0.9992):
        plateau = after_epoch(plateau, rule, loss)
    assert plateau.scale == pytest.approx(0.2)


def test_the_average_moves_by_one_minus_smoothing():
    plateau = after_epoch(after_epoch(Plateau(), PlateauRule(), 1.0), PlateauRule(), 0.0)
    assert plateau.average == pytest.approx(0.93)


def test_training_has_settled_after_fifty_epochs_without_improvement():
    rule = PlateauRule()
    plateau = after_epoch(Plateau(), rule, 1.0)
    for _ in range(49):
        plateau = after_epoch(plateau, rule, 1.0)
    assert not has_settled(plateau, rule)
    assert has_settled(after_epoch(plateau, rule, 1.0), rule)


def test_a_falling_loss_never_settles():
    rule = PlateauRule()
    plateau = Plateau()
    for epoch in range(200):
        plateau = after_epoch(plateau, rule, 1.0 - 0.001 * epoch)
    assert not has_settled(plateau, rule)
    assert plateau.stop_epochs_without == 0


def test_the_budgets_reserve_is_not_trained_in_but_takes_half_at_most():
    assert budget_progress(45.0, 100.0, 10.0) == pytest.approx(0.5)
    assert budget_progress(90.0, 100.0, 10.0) == 1.0
    assert budget_progress(25.0, 100.0, 500.0) == pytest.approx(0.5)
