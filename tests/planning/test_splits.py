from __future__ import annotations

import pytest

from planning.errors import PlanError
from planning.splits import make_splits

# Test folds of scikit-learn's KFold(5, shuffle=True, random_state=12345) on n items.
SCIKIT_LEARN = {
    7: [[3, 6], [0, 4], [1], [5], [2]],
    12: [[0, 3, 8], [7, 10, 11], [6, 9], [1, 4], [2, 5]],
}


def names(count: int) -> list[str]:
    return [f"case_{index:02}" for index in range(count)]


@pytest.mark.parametrize("count", SCIKIT_LEARN)
def test_folds_are_those_of_scikit_learn(count):
    splits = make_splits(names(count)[::-1])
    assert [split.validation for split in splits] == [
        tuple(names(count)[index] for index in fold) for fold in SCIKIT_LEARN[count]
    ]
    assert not any(split.note for split in splits)


@pytest.mark.parametrize("count", [2, 4, 5, 23])
def test_every_case_is_validated_once_and_never_trained_on_in_that_fold(count):
    splits = make_splits(names(count))
    assert sorted(name for split in splits for name in split.validation) == names(count)
    for split in splits:
        assert sorted(split.train + split.validation) == names(count)


def test_fewer_cases_than_folds_leave_one_out_and_say_so():
    splits = make_splits(names(3))
    assert [len(split.validation) for split in splits] == [1, 1, 1]
    assert all("3 cases or groups for 5 folds" in split.note for split in splits)


def test_a_single_case_is_trained_and_validated_on_and_says_so():
    (split,) = make_splits(["only"])
    assert split.train == split.validation == ("only",)
    assert "single case" in split.note


def test_groups_stay_together():
    groups = {name: f"patient_{index // 3}" for index, name in enumerate(names(30))}
    for split in make_splits(names(30), groups=groups):
        assert not {groups[name] for name in split.train} & {groups[name] for name in split.validation}


@pytest.mark.parametrize(("given", "groups"), [([], None), (["a", "a"], None), (["a", "b"], {"a": "one"})])
def test_names_that_cannot_be_split_are_refused(given, groups):
    with pytest.raises(PlanError, match="splits"):
        make_splits(given, groups=groups)
