"""The names of modules in a network's state dict: by place in the grid, so that a smaller grid has the same ones."""

from __future__ import annotations

from planning.grids import Node


def node_name(node: Node) -> str:
    """The name of a node in the state dict, such as 0_3."""
    return f"{node.level}_{node.column}"


def edge_name(source: Node, target: Node, shared: bool = False) -> str:
    """The name of an edge in the state dict: 1_2_to_0_3, or 1_to_0 where the columns share one going up."""
    if shared and source.level > target.level:
        return f"{source.level}_to_{target.level}"
    return f"{node_name(source)}_to_{node_name(target)}"


def gate_name(source: Node | None, target: Node, per: str) -> str:
    """The name of the gate on a source (None: the rendered features) of a node, the same where `per` shares it."""
    if per == "node":
        return node_name(target)
    if source is None:
        return f"rendered_to_{node_name(target)}"
    return node_name(source) if per == "source" else edge_name(source, target)
