from __future__ import annotations

from pathlib import Path

import pytest

from msseg.errors import DatasetError
from msseg.evaluation.froc import FALSE_POSITIVE_RATES, Candidate, Nodule, froc, read_candidates, read_nodules

HERE, THERE, ELSEWHERE = (0.0, 0.0, 0.0), (50.0, 0.0, 0.0), (0.0, 50.0, 0.0)


def test_sensitivity_is_worked_out_by_hand():
    # Down the list: hit (1 of 2), false, hit. One scan: the rates up to 1 lie on the line from (0, ½) to (1, ½), at 1
    # the second nodule is there.
    candidates = [Candidate("a", HERE, 0.9), Candidate("a", ELSEWHERE, 0.8), Candidate("a", THERE, 0.7)]
    result = froc(candidates, [Nodule("a", HERE, 10.0), Nodule("a", THERE, 10.0)], ["a"])
    assert dict(zip(FALSE_POSITIVE_RATES, result.sensitivities, strict=True)) == {
        **dict.fromkeys((0.125, 0.25, 0.5), 0.5),
        **dict.fromkeys((1.0, 2.0, 4.0, 8.0), 1.0),
    }
    assert result.score == pytest.approx((3 * 0.5 + 4) / 7)
    assert (result.found, result.false_positives) == (2, 1)


def test_between_two_probabilities_the_curve_runs_straight():
    # Hit and false mark share a probability: from (0, 0) to (1, 1) at once.
    candidates = [Candidate("a", HERE, 0.5), Candidate("a", ELSEWHERE, 0.5)]
    assert froc(candidates, [Nodule("a", HERE, 10.0)], ["a"]).sensitivities[:4] == (0.125, 0.25, 0.5, 1.0)


def test_a_mark_on_the_radius_is_outside():
    nodule = Nodule("a", HERE, 10.0)
    assert froc([Candidate("a", (4.9, 0.0, 0.0), 1.0)], [nodule], ["a"]).found == 1
    assert froc([Candidate("a", (5.0, 0.0, 0.0), 1.0)], [nodule], ["a"]).found == 0


def test_the_most_probable_of_several_marks_on_a_nodule_counts_and_none_is_false():
    candidates = [Candidate("a", HERE, 0.2), Candidate("a", (1.0, 0.0, 0.0), 0.9), Candidate("a", ELSEWHERE, 0.5)]
    result = froc(candidates, [Nodule("a", HERE, 10.0)], ["a"])
    assert (result.sensitivities[0], result.false_positives) == (1.0, 1)


def test_a_mark_on_an_irrelevant_finding_is_no_mistake():
    finding = Nodule("a", ELSEWHERE, -1.0, counted=False)  # of unknown diameter: 10 mm
    candidates = [Candidate("a", ELSEWHERE, 0.9), Candidate("a", HERE, 0.5)]
    result = froc(candidates, [Nodule("a", HERE, 10.0), finding], ["a"])
    assert (result.sensitivities[0], result.nodules, result.false_positives) == (1.0, 1, 0)


def test_a_nodule_that_no_mark_hits_bounds_the_sensitivity():
    nodules = [Nodule("a", HERE, 10.0), Nodule("b", HERE, 10.0)]
    assert froc([Candidate("a", HERE, 0.5)], nodules, ["a", "b"]).sensitivities == (0.5,) * 7


def test_false_marks_are_counted_by_scan():
    false = [Candidate("a", ELSEWHERE, 0.9)] * 4
    result = froc([*false, Candidate("a", HERE, 0.5)], [Nodule("a", HERE, 10.0)], ["a", "b", "c", "d"])
    assert result.sensitivities == (0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0)


def test_of_more_than_a_hundred_marks_of_a_scan_those_above_the_next_count():
    # 99 false marks are more probable than two at one value, of which one hits: the 101st has that value too.
    false = [Candidate("a", ELSEWHERE, 0.9)] * 99
    tied = [Candidate("a", HERE, 0.5), Candidate("a", ELSEWHERE, 0.5)]
    nodules = [Nodule("a", HERE, 10.0)]
    assert (froc([*false, *tied], nodules, ["a"]).found, froc([*false, *tied[:1]], nodules, ["a"]).found) == (0, 1)
    assert froc([*false, *tied], nodules, ["a"]).false_positives == 99


def test_no_mark_finds_nothing():
    assert froc([], [Nodule("a", HERE, 10.0)], ["a"]).score == 0.0


def test_scans_without_a_nodule_are_refused():
    with pytest.raises(DatasetError, match="no nodule in the 1 scans"):
        froc([], [], ["a"])


def test_lists_are_read_by_the_names_of_their_columns(tmp_path: Path):
    path = tmp_path / "candidates.csv"
    path.write_text("coordZ,coordY,coordX,seriesuid,probability\n3,2,1,1.3.6,0.5\n")
    assert read_candidates(path) == [Candidate("1.3.6", (1.0, 2.0, 3.0), 0.5)]
    path.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.3.6,1,2,3,4.5\n")
    assert read_nodules(path, counted=False) == [Nodule("1.3.6", (1.0, 2.0, 3.0), 4.5, counted=False)]


def test_a_list_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "candidates.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,probability\na,1,2,3,0.5\na,1,x,3,0.5\n")
    with pytest.raises(DatasetError, match=r"line 3: 1, x, 3, 0\.5; expected numbers"):
        read_candidates(path)
    with pytest.raises(DatasetError, match="no column diameter_mm"):
        read_nodules(path)
