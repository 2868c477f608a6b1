"""What prediction holds beside its scores."""

from __future__ import annotations

from planning.costs.prediction import Kept


def test_what_is_kept_of_a_case_is_counted_a_voxel():
    assert Kept().bytes_of(4, 1000) == 0
    assert Kept(probabilities=True).bytes_of(4, 1000) == 4 * 4 * 1000  # float32
    # Objects are made of probabilities, which are held once whether they are written or not.
    assert Kept(objects=True).bytes_of(4, 1000) == Kept(True, True).bytes_of(4, 1000) == (4 * 4 + 25) * 1000
