"""Candidates on probabilities written by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from msseg.data.cases import Case
from msseg.data.geometry import Geometry
from msseg.data.image import write_label
from msseg.errors import DatasetError, MssegError
from msseg.inference.probability_files import write_probabilities
from msseg.pipeline.candidate_scores import score, task_metric
from msseg.pipeline.cross_validation import CrossValidation, Folds
from msseg.pipeline.out_of_fold_scores import scored_path
from planning.instances import InstancePlan

GRID = Geometry((3, 8, 12), (1.0, 1.0, 1.0))


@pytest.fixture
def world(tmp_path, make_configuration, make_plan):
    """Makes models, cases and folds of foreground probabilities and references, by case: case k is in fold k % 2."""

    class World:
        plan = make_plan(make_configuration())

        def model(self, name, by_case):
            for number, share in enumerate(by_case):
                values = np.stack([1 - share, share]).astype(np.float32)
                path = scored_path(tmp_path / name, str(number % 2), f"case_{number}")
                write_probabilities(path, values, GRID, self.plan.labels, 8)
            return CrossValidation(tmp_path / name, self.plan, {}, ())

        def scored(self, references, *members, decide_by=None, executor=None):
            cases = {}
            for number, mask in enumerate(references):
                path = tmp_path / "labels" / f"case_{number}.nii.gz"
                write_label(path, mask.astype(np.uint8) * 7, GRID)
                cases[f"case_{number}"] = Case(f"case_{number}", (), path)
            names = sorted(cases)
            folds = Folds({"0": tuple(names[::2]), "1": tuple(names[1::2])}, None)
            return score(members, folds, cases, task_metric(self.plan, None, decide_by), executor=executor)

    return World()


def block(*boxes):
    mask = np.zeros(GRID.shape, bool)
    for rows, columns in boxes:
        mask[:, rows, columns] = True
    return mask


def probable(mask, inside=0.9, outside=0.1):
    return np.where(mask, inside, outside).astype(np.float32)


OBJECT = (slice(1, 5), slice(1, 5))
FAR = (slice(5, 8), slice(8, 12))
SPECK = (slice(7, 8), slice(11, 12))


def test_the_figure_is_the_mean_dice_of_the_cases(world):
    half = block((slice(1, 3), slice(1, 5)))
    found = world.scored([block(OBJECT)] * 4, world.model("a", [probable(half)] * 4))
    assert found.plain.figure() == pytest.approx(2 * 8 / (8 + 16))


def test_a_pair_is_the_mean_of_its_probabilities(world):
    left, right = block((slice(1, 5), slice(1, 3))), block((slice(1, 5), slice(3, 5)))
    one = world.model("a", [probable(left, 0.95, 0.3)] * 4)
    two = world.model("b", [probable(right, 0.95, 0.3)] * 4)
    singles = [world.scored([left | right] * 4, model).plain.figure() for model in (one, two)]
    assert singles == pytest.approx([2 / 3, 2 / 3])
    assert world.scored([left | right] * 4, one, two).plain.figure() == pytest.approx(1.0)


def test_rules_that_help_in_every_fold_are_kept_and_their_figure_is_not_optimistic(world):
    found = world.scored([block(OBJECT)] * 6, world.model("a", [probable(block(OBJECT, FAR))] * 6))
    assert found.is_treated and found.treatment.rules
    assert found.nested.figure() == found.optimistic.figure() == 1.0 > found.plain.figure()
    assert found.sample is found.nested


def test_rules_that_help_one_fold_and_harm_the_other_look_good_only_where_they_were_chosen(world):
    # Fold 0 has much to remove. Fold 1 has a second object, which the rule of fold 0 takes away.
    references = [block(OBJECT) if number % 2 == 0 else block(OBJECT, SPECK) for number in range(8)]
    shares = [probable(block(OBJECT, FAR) if number % 2 == 0 else block(OBJECT, SPECK)) for number in range(8)]
    found = world.scored(references, world.model("a", shares))
    assert found.optimistic.figure() > found.plain.figure() > found.nested.figure()
    assert found.plain.figure() == pytest.approx((2 * 16 / (32 + 12) + 1) / 2)
    assert found.nested.figure() == pytest.approx((2 * 16 / (32 + 12) + 2 * 16 / 33) / 2)
    assert not found.is_treated and found.sample is found.plain
    assert found.found.rules and not found.treatment.rules


def test_a_threshold_of_images_is_chosen_on_the_other_folds(world, make_configuration, make_plan):
    world.plan = make_plan(make_configuration((8, 8)))
    low = probable(block(OBJECT), 0.4, 0.2)
    found = world.scored([block(OBJECT)] * 4, world.model("a", [low] * 4))
    assert found.plain.figure() == 0.0
    assert found.nested.figure() == 1.0
    assert found.treatment.threshold is not None and 0.2 < found.treatment.threshold < 0.4


def test_thresholds_are_chosen_where_they_are_asked_for_alone(world, make_configuration, make_plan):
    low = probable(block(OBJECT), 0.4, 0.2)
    model = world.model("a", [low] * 4)  # volumes: none by itself
    assert world.scored([block(OBJECT)] * 4, model).found.decision is None
    asked = world.scored([block(OBJECT)] * 4, model, decide_by="iou")
    assert asked.found.decision.metric == "iou" and 0.2 < asked.treatment.threshold < 0.4
    world.plan = make_plan(make_configuration((8, 8)))  # images: pooled Dice by itself
    assert world.scored([block(OBJECT)] * 4, model, decide_by="none").found.decision is None


def test_the_workers_of_an_executor_find_the_same(world):
    model = world.model("a", [probable(block(OBJECT, FAR))] * 6)
    alone = world.scored([block(OBJECT)] * 6, model, decide_by="dice")
    with ThreadPoolExecutor(2) as executor:
        spread = world.scored([block(OBJECT)] * 6, model, decide_by="dice", executor=executor)
    assert alone.treatment == spread.treatment and alone.nested.figure() == spread.nested.figure()


def test_the_metric_is_the_tasks_own_or_a_challenges(make_configuration, make_plan):
    plan = make_plan(make_configuration())
    assert task_metric(plan).name == "dice"
    levels = {"background": 0, "border": 1, "rim": 2, "core": 3}
    objects = make_plan(make_configuration((8, 8)), labels=levels, instances=InstancePlan("nucleus", 1))
    assert task_metric(objects).name == "dsb2018"
    assert (
        task_metric(objects, None, "object_f1").name == task_metric(objects, None, "object_f1").deciding == "object_f1"
    )
    by_pixels = task_metric(objects, None, "dice")
    assert (by_pixels.name, by_pixels.deciding) == ("dsb2018", "dice")
    assert task_metric(plan, "decathlon", "dice").deciding == "dice"
    with pytest.raises(MssegError, match="numbered objects"):
        task_metric(plan, None, "dsb2018")
    assert task_metric(plan, "decathlon").name == "decathlon"
    with pytest.raises(DatasetError, match="no_such"):
        task_metric(plan, "no_such")


def test_numbered_objects_are_ranked_by_their_matches(world, make_configuration, make_plan, tmp_path):
    levels = {"background": 0, "border": 1, "rim": 2, "core": 3}
    configuration = make_configuration((8, 8))
    plan = make_plan(configuration, labels=levels, class_weights=(1.0,) * 4, instances=InstancePlan("nucleus", 1))
    grid = Geometry((1, 8, 12), (1.0, 1.0, 1.0), has_spacing=False)
    ids = np.zeros(grid.shape, np.uint16)
    ids[0, 1:4, 1:4], ids[0, 1:4, 7:10] = 1, 2
    cases = {}
    for number in range(4):
        seen = (ids > 0) if number else (ids == 1)
        values = np.stack([1 - 0.9 * seen, 0 * seen, 0 * seen, 0.9 * seen]).astype(np.float32)
        path = scored_path(tmp_path / "m", str(number % 2), f"case_{number}")
        write_probabilities(path, values, grid, levels, 8, plan.instances)
        label = tmp_path / "labels" / f"case_{number}.tif"
        write_label(label, ids, grid)
        cases[f"case_{number}"] = Case(f"case_{number}", (), label)
    folds = Folds({"0": ("case_0", "case_2"), "1": ("case_1", "case_3")}, None)
    found = score([CrossValidation(tmp_path / "m", plan, {}, ())], folds, cases, task_metric(plan))
    assert found.plain.figure() == pytest.approx((0.5 + 3) / 4)
