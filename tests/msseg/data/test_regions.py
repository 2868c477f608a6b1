from __future__ import annotations

from pathlib import Path

import pytest

from msseg.data.dataset import read_dataset
from msseg.data.regions import declared_regions, painting_notes
from msseg.errors import DatasetError
from planning.regions import Region

BRAIN = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def regions_of(labels, order):
    found = declared_regions(Path("dataset.json"), labels, order)
    assert found is not None
    return found


def test_regions_keep_the_order_of_the_file_and_single_values_are_named_by_who_has_them_alone():
    found = regions_of(BRAIN, [1, 2, 3])
    assert found.values == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert found.painted == (1, 2, 3)
    assert found.labels == {"background": 0, "label_1": 1, "label_2": 2, "enhancing": 3}
    assert painting_notes(Path("dataset.json"), found) == []


def test_labels_of_one_value_each_are_no_regions():
    assert declared_regions(Path("dataset.json"), {"background": 0, "tumour": 1}, None) is None


def test_a_value_that_is_painted_over_is_noted():
    found = regions_of({"background": 0, "core": [2, 4], "whole": [1, 2, 4]}, [2, 1])
    notes = [note.found for note in painting_notes(Path("dataset.json"), found)]
    assert notes == ["label value 2 comes out as 1", "label value 4 comes out as 1"]


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        (BRAIN, None, "regions without regions_class_order; expected 3 values, one of each of whole, core, enhancing"),
        (BRAIN, [1, 2], r"regions_class_order \[1, 2\]; expected 3 values"),
        (BRAIN, 3, "regions_class_order 3; expected 3 values"),
        (BRAIN, [1, 1, 3], r"which paints 1 for 'core'; expected one of the region's values \[2, 3\]"),
        (BRAIN, [5, 2, 3], "which paints 5 for 'whole'"),
        (BRAIN, [True, 2, 3], "which paints True for 'whole'"),
        ({**BRAIN, "all": [0, 1]}, [1, 2, 3, 1], r"the region 'all' of \[0, 1\]; expected values of the foreground"),
        ({**BRAIN, "again": [3, 2]}, [1, 2, 3, 2], r"the regions 'core' and 'again' of the same values \[2, 3\]"),
        ({**BRAIN, "odd": [2, 2]}, [1, 2, 3, 2], r"the region 'odd' of \[2, 2\]; expected no value twice"),
        ({**BRAIN, "odd": []}, [1, 2, 3, 2], r"the region 'odd' of \[\]; expected label values"),
        ({**BRAIN, "odd": ["2"]}, [1, 2, 3, 2], r"the region 'odd' of \['2'\]; expected label values"),
        ({"whole": [1, 2], "core": 2}, [1, 2], "regions and 0 labels of value 0"),
        ({"background": 0, "whole": [1, 2], "label_1": 2}, [1, 2], "the region 'label_1', as the value 1 is called"),
        ({"background": 0, "tumour": 1}, [1], r"regions_class_order \[1\] without a region"),
    ],
)
def test_malformed_regions_are_refused(labels, order, message):
    with pytest.raises(DatasetError, match=message):
        declared_regions(Path("dataset.json"), labels, order)


def test_a_data_set_has_regions_by_value_and_by_class(nnunet):
    labels = {"background": 0, "whole": [1, 2], "back": 2, "ignore": 3}
    dataset = read_dataset(nnunet(labels=labels, regions_class_order=[1, 2]))
    assert dataset.labels == {"background": 0, "label_1": 1, "back": 2}
    assert dataset.planned_regions == (Region("whole", (1, 2), 1), Region("back", (2,), 2))
    assert dataset.measured == {"whole": (1, 2), "back": (2,)}
    assert (dataset.ignore, dataset.notes) == (3, ())


def test_without_regions_every_label_of_the_foreground_is_measured(nnunet):
    dataset = read_dataset(nnunet())
    assert dataset.planned_regions == ()
    assert dataset.measured == {name: value for name, value in dataset.labels.items() if value}


def test_pairs_of_left_and_right_may_be_regions(nnunet):
    labels = {"background": 0, "left lung": [1, 2], "right lung": [3, 4], "left upper": 1, "right upper": 3}
    pairs = [["left lung", "right lung"], ["left upper", "right upper"]]
    dataset = read_dataset(nnunet(labels=labels, regions_class_order=[2, 4, 1, 3], label_pairs=pairs))
    assert dataset.label_pairs == tuple(map(tuple, pairs))
    with pytest.raises(DatasetError, match=r"label_pairs .*expected pairs of .*left lung"):
        read_dataset(nnunet(labels=labels, regions_class_order=[2, 4, 1, 3], label_pairs=[["left lung", "spleen"]]))


def test_regions_of_numbered_objects_are_refused(nnunet):
    labels = {"background": 0, "whole": [1, 2], "back": 2}
    with pytest.raises(DatasetError, match="instances beside regions"):
        read_dataset(nnunet(labels=labels, regions_class_order=[1, 2], instances=True))
