from __future__ import annotations

import csv
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from msseg.challenges.table import CHALLENGES, find_challenge
from msseg.errors import DatasetError
from msseg.evaluation.case import CaseMetrics, EvaluationOptions, measure_case
from msseg.evaluation.evaluate import Evaluation, evaluation_to_json, gather, write_evaluation
from msseg.evaluation.rankings import RANKINGS, ChallengeMetric, decathlon_tolerances, find_ranking, ranking_labels
from msseg.evaluation.region_metrics import REGION_METRICS
from msseg.evaluation.tables import evaluation_table
from msseg.pipeline.candidate_scores import task_metric

Pair = tuple[list[int], list[int]]


def _label_map(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(1, 1, -1)


def _case(challenge: str, name: str, pair: Pair, labels: dict[str, int] | None = None) -> CaseMetrics:
    prediction, reference = (_label_map(values) for values in pair)
    metric = ChallengeMetric(challenge)
    return measure_case(name, prediction, reference, (1, 1, 1), metric.labels(labels or {}), metric.options())


def _evaluation(challenge: str, *pairs: Pair, labels: dict[str, int] | None = None) -> Evaluation:
    """The evaluation of pairs of predicted and reference values in a row."""
    metric = ChallengeMetric(challenge)
    cases = [_case(challenge, f"case_{number}", pair, labels) for number, pair in enumerate(pairs)]
    return gather(cases, metric.labels(labels or {}), metric.options())


def _means(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    assert evaluation.challenge is not None
    return {row: dict(values) for row, values in evaluation.challenge.mean.items()}


@pytest.mark.parametrize("name", RANKINGS)
def test_every_ranking_names_metrics_that_there_are(name: str):
    ranking = RANKINGS[name]
    assert set(ranking.metrics) <= set(REGION_METRICS)
    assert {*ranking.both_empty, *ranking.one_empty} <= set(ranking.metrics)
    assert ranking.objects or set(ranking.ranked_by) <= set(ranking.metrics)
    assert set(ranking.ranked_regions or ()) <= set(ranking.regions or ())


def test_an_unknown_challenge_is_refused_with_the_known_ones():
    with pytest.raises(DatasetError, match="kits19, kits23, lits17"):
        find_ranking("kits")
    with pytest.raises(ValueError, match="known: kits19"):
        EvaluationOptions(challenge="kits")


def test_a_challenge_leads_to_its_metric():
    assert find_challenge("dsb2018").metric == ChallengeMetric("dsb2018")
    assert find_challenge("folder").metric is None
    assert set(RANKINGS) - {"chaos", *CHALLENGES} <= {"kits23", "chaos_ct", "chaos_t1", "chaos_t2"}


def test_kits19_takes_the_tumour_for_kidney_too():
    # Kidney: 4 of 4 and 4; tumour: 1 shared of 1 and 2.
    evaluation = _evaluation("kits19", ([1, 1, 1, 2, 0], [1, 1, 2, 2, 0]))
    assert _means(evaluation) == {"kidney": {"dice": 1.0}, "tumour": {"dice": pytest.approx(2 / 3)}}
    assert ChallengeMetric("kits19")(evaluation) == pytest.approx((1 + 2 / 3) / 2)


def test_kits23_counts_a_tumour_on_neither_side_as_found_and_on_one_side_as_lost():
    evaluation = _evaluation("kits23", ([1, 1, 3], [1, 1, 3]), ([1, 1, 2], [1, 1, 1]))
    means = _means(evaluation)
    assert means["tumour"] == {"dice": 0.5, "surface_dice": 0.5}
    assert means["masses"] == {"dice": 0.5, "surface_dice": 0.5}
    assert means["kidney_and_masses"] == {"dice": 1.0, "surface_dice": 1.0}
    assert ChallengeMetric("kits23")(evaluation) == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert evaluation.challenge is not None
    assert evaluation.challenge.tolerance_mm["tumour"] == pytest.approx(1.1498198361434828)


def test_lits17_ranks_by_tumour_dice_a_case_and_counts_lesions_over_all():
    # First: 2 of 3 and 2 tumour voxels shared, found at 2/3. Second: none on either side. Third: one false, one missed.
    pairs: list[Pair] = [
        ([1, 2, 2, 2, 1], [1, 2, 2, 1, 1]),
        ([1, 1, 1, 1, 0], [1, 1, 1, 0, 0]),
        ([2, 1, 1, 1, 1], [1, 1, 1, 1, 2]),
    ]
    evaluation = _evaluation("lits17", *pairs)
    assert evaluation.challenge is not None
    means, pooled = _means(evaluation), evaluation.challenge.pooled["tumour"]
    assert means["tumour"]["dice"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert ChallengeMetric("lits17")(evaluation) == means["tumour"]["dice"]
    assert pooled["dice_global"] == pytest.approx(2 * 2 / (4 + 3))
    assert (pooled["lesion_precision"], pooled["lesion_recall"]) == (1 / 2, 1 / 2)
    assert means["tumour"]["rvd"] == pytest.approx((0.5 + 0) / 2)
    assert means["liver"]["voe"] == pytest.approx((0 + 1 / 4 + 0) / 3)
    assert means["liver"]["hausdorff_mm"] == pytest.approx(1 / 3)
    assert "lesions_found" not in means["liver"]
    assert set(evaluation.challenge.pooled["liver"]) == {"dice_global"}


def test_chaos_scores_are_cut_at_their_thresholds():
    # 9 of 10 voxels: Dice 18/19, volumes 10 % apart (beyond 5 %), one of the two ends 1 mm off.
    liver = {"liver": 255}
    values = _means(_evaluation("chaos_ct", ([255] * 9 + [0], [255] * 10), labels=liver))["liver"]
    assert values["ravd_percent"] == pytest.approx(10)
    assert values["dice_score"] == pytest.approx(100 * 18 / 19)
    assert values["ravd_score"] == 0
    assert values["assd_score"] == pytest.approx(100 * (1 - 0.5 / 15))
    assert values["mssd_score"] == pytest.approx(100 * (1 - 1 / 60))
    lost = _evaluation("chaos_ct", ([0] * 10, [255] * 10), labels=liver)
    assert ChallengeMetric("chaos_ct")(lost) == 0
    poor = _means(_evaluation("chaos_ct", ([255] * 5 + [0] * 5, [255] * 10), labels=liver))["liver"]
    assert poor["dice_score"] == 0  # Dice 2/3


def test_brats_until_2021_counts_what_is_on_neither_side_and_on_one():
    # Enhancing (4): on neither side in the first case, invented in the second.
    evaluation = _evaluation("brats19", ([1, 2, 2, 0], [1, 2, 0, 0]), ([1, 4, 2, 0], [1, 1, 2, 0]))
    means = _means(evaluation)
    assert means["enhancing"] == {
        "dice": 0.5,
        "hd95_mm": pytest.approx((0 + 373.13) / 2),
        "sensitivity": 0.5,
        "specificity": pytest.approx((1 + 3 / 4) / 2),
    }
    assert means["whole"]["dice"] == pytest.approx((4 / 5 + 1) / 2)
    assert means["core"] == {"dice": 1.0, "hd95_mm": 0.0, "sensitivity": 1.0, "specificity": 1.0}


def test_brats_since_2023_scores_lesions_and_calls_3_enhancing():
    far = 20 * [0]
    blocks = np.zeros((2, 6, 6, 40), dtype=np.uint8)
    blocks[:, 1:5, 1:5, 1:5] = 3  # 64 mm³ on both sides
    blocks[1, 1:5, 1:5, 30:34] = 3  # and 64 mm³ missed
    metric = ChallengeMetric("brats23")
    labels = metric.labels({})
    case = measure_case("a", blocks[0], blocks[1], (1, 1, 1), labels, metric.options())
    evaluation = gather([case], labels, metric.options())
    assert _means(evaluation)["enhancing"]["lesion_dice"] == pytest.approx(1 / 2)
    assert _means(evaluation)["enhancing"]["lesion_hd95_mm"] == pytest.approx(374 / 2)
    assert _means(evaluation)["whole"]["dice"] == pytest.approx(2 / 3)
    assert metric(evaluation) == pytest.approx(1 / 2)
    empty = _evaluation("brats23", ([*far, 0], [*far, 0]))
    assert metric(empty) == 1.0


def test_brats_2024_has_six_regions_and_asks_for_smaller_lesions():
    # Blocks of 16 mm³, met exactly: the enhancing one is asked for (above 10), the cavity (above 20) on neither side.
    blocks = np.zeros((2, 6, 8, 20), dtype=np.uint8)
    blocks[:, 1:3, 1:3, 1:5] = 3
    blocks[:, 1:3, 5:7, 12:16] = 4
    blocks[0, 5, 7, 19] = 3  # of 1 mm³: no lesion, therefore not invented
    metric = ChallengeMetric("brats24")
    labels = metric.labels({})
    case = measure_case("a", *blocks, (1, 1, 1), labels, metric.options())
    evaluation = gather([case], labels, metric.options())
    assert list(labels.values()) == [(1, 2, 3), (1, 3), 3, 1, 2, 4]
    assert {row: values["lesion_dice"] for row, values in _means(evaluation).items()} == dict.fromkeys(labels, 1.0)
    lost = measure_case("a", 0 * blocks[0], blocks[1], (2, 2, 2), labels, metric.options())
    assert lost.challenge is not None
    assert lost.challenge["resection_cavity"]["lesion_hd95_mm"] == 337.0
    assert lost.challenge["resection_cavity"]["lesion_dice"] == 0.0


def test_regions_of_the_data_set_itself_stand_before_the_challenges_values():
    assert ranking_labels("brats19", {"whole": (1, 2, 3), "other": 3}) == {
        **(RANKINGS["brats19"].regions or {}),
        "whole": (1, 2, 3),
    }
    assert ranking_labels("kits19", {"kidney": 1, "tumour": 2}) == {"kidney": (1, 2), "tumour": 2}
    assert ranking_labels("decathlon", {"a": 1}) == {"a": 1}


def test_acdc_tells_the_phases_apart_by_name_or_by_volume():
    labels = dict(RANKINGS["acdc"].regions or {})
    systole, diastole = ([3, 1, 2, 0], [3, 1, 2, 0]), ([3, 3, 1, 2], [3, 3, 2, 2])
    for names in (("patient001_frame12", "patient001_frame01"), ("patient001_ES", "patient001_ED")):
        cases = [_case("acdc", name, pair) for name, pair in zip(names, (systole, diastole), strict=True)]
        evaluation = gather(cases, labels, EvaluationOptions(challenge="acdc"))
        means = _means(evaluation)
        assert (means["myocardium ES"]["dice"], means["myocardium ED"]["dice"]) == (1.0, pytest.approx(2 / 3))
        assert means["right_ventricle ED"]["dice"] == 0.0
        assert ChallengeMetric("acdc")(evaluation) == pytest.approx((1 + 1 + 1 + 0 + 2 / 3 + 1) / 6)


def test_phases_weigh_alike_whatever_the_number_of_their_cases(make_plan, make_configuration):
    right, wrong = ([1, 2, 3, 0], [1, 2, 3, 0]), ([0, 0, 0, 1], [1, 2, 3, 0])
    cases = [
        _case("acdc", name, pair) for name, pair in (("a_ED", right), ("b_ED", right), ("c_ED", right), ("a_ES", wrong))
    ]
    metric = ChallengeMetric("acdc")
    figure = metric(gather(cases, dict(RANKINGS["acdc"].regions or {}), metric.options()))
    assert figure == pytest.approx((1 + 0) / 2)
    terms = metric.terms(cases)
    assert set(terms[0]) == {f"{region} ED dice" for region in ("right_ventricle", "myocardium", "left_ventricle")}
    compared = task_metric(make_plan(make_configuration()), "acdc")  # as models are compared
    assert compared.sample(cases).figure() == pytest.approx(figure)


def test_the_decathlons_tolerance_goes_by_the_task_that_the_labels_tell():
    assert decathlon_tolerances({"Anterior": 1, "Posterior": 2}, 3.0) == {"Anterior": 1.0, "Posterior": 1.0}
    assert decathlon_tolerances({"liver": 1, "cancer": 2}, 3.0)["cancer"] == 7.0
    assert decathlon_tolerances({"pancreas": 1, "cancer": 2}, 3.0)["cancer"] == 5.0
    assert decathlon_tolerances({"cancer": 1}, 3.0)["cancer"] == 2.0
    assert decathlon_tolerances({"something": 1}, 3.0) == {"something": 3.0}


def test_dsb2018_ranks_by_its_objects():
    evaluation = _evaluation("dsb2018", ([1, 0, 2, 0], [1, 0, 2, 0]), ([1, 0, 0, 0], [1, 0, 2, 0]), labels={"n": 1})
    assert evaluation.objects is not None
    assert ChallengeMetric("dsb2018")(evaluation) == pytest.approx(0.75) == evaluation.objects.mean["dsb2018"]


def test_isbi2012_ranks_by_the_rand_score():
    # Two cells; the prediction merges them: shared (1 + 1) / 4, predicted 4 / 4.
    evaluation = _evaluation("isbi2012", ([1, 1, 1], [1, 0, 1]), labels={"interior": 1})
    assert ChallengeMetric("isbi2012")(evaluation) == pytest.approx(2 * 0.5 / (0.5 + 1))


@pytest.mark.parametrize("name", ["kits19", "kits23", "lits17", "brats19", "brats23", "decathlon", "isbi2012"])
def test_the_figure_is_the_mean_of_the_terms_means(name: str):
    labels = {"a": 1, "b": 2}
    evaluation = _evaluation(name, ([1, 1, 2, 0], [1, 2, 2, 0]), ([1, 2, 1, 1], [1, 2, 2, 1]), labels=labels)
    metric = ChallengeMetric(name)
    terms: dict[str, list[float]] = {}
    for of_case in metric.terms(evaluation.cases):
        for term, value in of_case.items():
            terms.setdefault(term, []).extend([] if value is None else [value])
    assert metric(evaluation) == pytest.approx(np.mean([np.mean(values) for values in terms.values() if values]))


def test_an_evaluation_of_something_else_has_no_such_figure():
    evaluation = _evaluation("kits19", ([1, 1], [1, 1]))
    with pytest.raises(ValueError, match="challenge='kits23'"):
        ChallengeMetric("kits23")(evaluation)
    assert math.isnan(ChallengeMetric("kits19")(gather([], {"kidney": 1}, EvaluationOptions(challenge="kits19"))))


def test_a_challenge_changes_nothing_of_the_other_figures():
    pair = _label_map([1, 1, 2, 0]), _label_map([1, 2, 2, 0])
    labels = {"kidney": (1, 2), "tumour": 2}
    plain, ranked = (
        measure_case("a", *pair, (1, 1, 1), labels, EvaluationOptions(challenge=name)) for name in (None, "kits19")
    )
    assert ranked.labels == plain.labels
    assert plain.challenge is None


@pytest.mark.parametrize("name", ["chaos", "lits17", "brats19", "acdc"])
def test_distances_are_measured_where_the_evaluation_leaves_them_out(name: str):
    pair = _label_map([1, 1, 2, 3, 4, 0]), _label_map([1, 2, 2, 3, 3, 4])
    metric = ChallengeMetric(name)
    labels = metric.labels({"a": 1, "b": 2})
    cases = [
        measure_case("a", *pair, (1, 1, 1), labels, EvaluationOptions(surfaces=surfaces, challenge=name))
        for surfaces in (True, False)
    ]
    assert cases[0].challenge == cases[1].challenge


def test_files_and_table_say_what_ranks(tmp_path: Path):
    evaluation = _evaluation("kits19", ([1, 1, 1, 2, 0], [1, 1, 2, 2, 0]))
    write_evaluation(evaluation, tmp_path / "a.json", tmp_path / "a.csv")
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["challenge"]["score"] == pytest.approx(5 / 6)
    assert written["cases"][0]["challenge"]["tumour"]["dice"] == pytest.approx(2 / 3)
    assert written == evaluation_to_json(evaluation)
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["challenge_dice"]) for row in rows] == pytest.approx([1, 2 / 3])
    assert "As KiTS19 ranks: 0.8333 (mean Dice of kidney, tumour)." in evaluation_table(evaluation)


@pytest.mark.parametrize("name", RANKINGS)
def test_every_ranking_has_a_table(name: str):
    evaluation = _evaluation(name, ([1, 1, 2, 0, 0], [1, 2, 2, 0, 3]), labels={"n": 1})
    assert f"As {RANKINGS[name].title} ranks: " in evaluation_table(evaluation)


def test_dice_and_hd95_of_brats_regions_equal_those_of_monai():
    rng = np.random.default_rng(4)
    field = gaussian_filter(rng.normal(size=(16, 20, 18)), 2.0)
    other = field + 0.3 * gaussian_filter(rng.normal(size=field.shape), 1.5)
    reference, prediction = (
        np.select([one > 0.12, one > 0.06, one > 0], [4, 1, 2]).astype(np.uint8) for one in (field, other)
    )
    metric = ChallengeMetric("brats19")
    case = measure_case("a", prediction, reference, (1, 1, 1), metric.labels({}), metric.options())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("monai", reason="MONAI is in the test extra")
        import torch
        from monai.metrics import compute_dice, compute_hausdorff_distance, get_confusion_matrix

        for region, values in metric.labels({}).items():
            masks = [torch.from_numpy(np.isin(one, values))[None, None] for one in (prediction, reference)]
            _, _, negative, _ = confusion = get_confusion_matrix(*(one.long() for one in masks))[0, 0]
            expected = [
                compute_dice(*masks),
                compute_hausdorff_distance(*masks, include_background=True, percentile=95),
                confusion[0] / (confusion[0] + confusion[3]),
                negative / (negative + confusion[1]),
            ]
            assert case.challenge is not None
            assert list(case.challenge[region].values()) == pytest.approx([float(one) for one in expected], rel=1e-5)
