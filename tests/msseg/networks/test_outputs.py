from __future__ import annotations

import torch

from msseg.networks.outputs import decided_classes
from planning.regions import Region

REGIONS = (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))


def test_the_largest_score_decides_between_classes():
    scores = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [0.5, 3.0]]])
    assert decided_classes(scores).tolist() == [[0, 2]]


def test_regions_are_painted_in_their_order_where_their_score_is_above_0():
    scores = torch.tensor([[-1.0, 0.0, 0.1, 5.0, -1.0], [-1.0, -1.0, -2.0, 0.1, 3.0], [-1.0, -1.0, 4.0, -3.0, -1.0]])
    assert decided_classes(scores, REGIONS, dim=0).tolist() == [0, 0, 3, 2, 2]
    assert decided_classes(scores[None], REGIONS).tolist() == [[0, 0, 3, 2, 2]]


def test_a_single_region_has_two_answers():
    scores = torch.tensor([[[-0.1, 0.1]]], dtype=torch.bfloat16)
    assert decided_classes(scores, REGIONS[:1]).tolist() == [[0, 1]]
