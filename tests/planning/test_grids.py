from __future__ import annotations

import pytest

from planning.grids import Grid, Node, plain_grid


def test_plain_grid_of_three_levels():
    grid = plain_grid(3)
    assert grid.sources == {
        (0, 0): (),
        (1, 0): ((0, 0),),
        (2, 0): ((1, 0),),
        (1, 1): ((2, 0), (1, 0)),
        (0, 2): ((1, 1), (0, 0)),
    }
    assert grid.outputs == ((0, 2), (1, 1))


@pytest.mark.parametrize("levels", range(2, 9))
def test_nodes_come_after_their_sources(levels):
    seen = set()
    for node, sources in plain_grid(levels).sources.items():
        assert seen.issuperset(sources)
        seen.add(node)
    assert len(seen) == 2 * levels - 1


@pytest.mark.parametrize(
    "sources",
    [
        {Node(0, 0): (), Node(0, 1): (Node(1, 0),), Node(1, 0): (Node(0, 0),)},
        {Node(0, 0): (), Node(1, 0): ()},
        {Node(0, 0): (), Node(2, 0): (Node(0, 0),)},
    ],
)
def test_a_grid_out_of_order_is_refused(sources):
    with pytest.raises(ValueError, match="Node"):
        Grid(2, sources, (Node(0, 0),))


def test_an_output_that_is_no_node_is_refused():
    with pytest.raises(ValueError, match="outputs"):
        Grid(1, {Node(0, 0): ()}, (Node(0, 4),))
