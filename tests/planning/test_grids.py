from __future__ import annotations

import pytest

from planning.grids import GRIDS, HEADS, PRUNABLE, Grid, Node, full_scale_grid, nested_grid, plain_grid, sharp_grid


def test_plain_grid_of_three_levels():
    assert plain_grid(3).sources == {
        (0, 0): (),
        (1, 0): ((0, 0),),
        (2, 0): ((1, 0),),
        (1, 1): ((2, 0), (1, 0)),
        (0, 2): ((1, 1), (0, 0)),
    }


def test_a_nested_node_is_fed_by_its_level_and_by_the_one_below():
    assert nested_grid(5).sources[Node(1, 2)] == ((1, 0), (1, 1), (2, 1))
    assert nested_grid(5).sources[Node(0, 4)] == ((0, 0), (0, 1), (0, 2), (0, 3), (1, 3))


def test_a_sharp_node_is_fed_by_its_whole_diagonal_as_well():
    assert sharp_grid(5).sources[Node(1, 2)] == ((1, 0), (1, 1), (2, 1), (3, 0))
    assert len(sharp_grid(5).sources[Node(0, 4)]) == 8  # the paper's eight maps


def test_the_grids_of_the_printed_counts_lack_the_long_skips_named():
    whole, flat, solid = (GRIDS[name](5).sources for name in ("sharp", "sharp_count2d", "sharp_count3d"))
    assert {node for node in whole if whole[node] != flat[node]} == {(2, 2), (1, 3)}
    assert {node for node in whole if whole[node] != solid[node]} == {(0, 4)}
    assert flat[Node(2, 2)] == ((2, 0), (2, 1), (3, 1))


def test_a_full_scale_node_is_fed_by_every_level():
    assert full_scale_grid(5).sources[Node(2, 2)] == ((0, 0), (1, 0), (2, 0), (3, 1), (4, 0))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("levels", range(2, 9))
def test_nodes_come_after_their_sources_and_lead_to_the_last_one(name, levels):
    grid, seen = GRIDS[name](levels), set()
    for node, sources in grid.sources.items():
        assert seen.issuperset(sources)
        seen.add(node)
    assert set(grid.needed([Node(0, levels - 1)])) == seen


@pytest.mark.parametrize("name", PRUNABLE)
def test_the_first_levels_of_a_prunable_grid_are_the_smaller_grid(name):
    whole, smaller = GRIDS[name](5).sources, GRIDS[name](3).sources
    kept = {node: sources for node, sources in whole.items() if node.level + node.column < 3}
    assert kept == smaller


def test_only_the_nodes_that_lead_to_the_outputs_are_needed():
    needed = nested_grid(5).needed([Node(0, 2)])
    assert set(needed) == {node for node in nested_grid(5).sources if node.level + node.column <= 2}


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("last", [(0, 3)]),
        ("decoder", [(0, 3), (1, 2), (2, 1)]),
        ("full_resolution", [(0, 3), (0, 2), (0, 1)]),
        ("full_scale", [(0, 3), (1, 2), (2, 1), (3, 0)]),
        ("sharp", [(0, 3), (0, 2), (0, 1), (1, 2), (2, 1), (3, 0)]),
    ],
)
def test_heads_of_four_levels(name, nodes):
    assert list(HEADS[name](4)) == nodes


@pytest.mark.parametrize("name", HEADS)
def test_the_head_that_predicts_first_and_full_resolution_come_before_the_others(name):
    heads = HEADS[name](5)
    assert heads[0] == (0, 4)
    levels = [node.level for node in heads]
    assert levels == sorted(levels)


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
        Grid(2, sources)
