"""Which components stay: pure functions of what is known of them, the same for voxels and for tables of cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """Some components in the order of the array, one entry each.

    Those of one `group` compete with each other: a class, or one group for all. `sizes` are voxels, of the whole
    component or of the class that counts. `attached` tells which touch an anchor, None where none was asked for, and
    `anchored` whether there is an anchor anywhere.
    """

    group: np.ndarray
    sizes: np.ndarray
    attached: np.ndarray | None = None
    anchored: bool = False


def largest(components: Components, k: int = 1) -> np.ndarray:
    """The mask of the `k` largest components of each group, of equals the first.

    Components of no size go; where none has any, all stay: a class that was not found tells nothing of the others.
    """
    keep = np.zeros(len(components.sizes), bool)
    for group in np.unique(components.group):
        members = np.flatnonzero(components.group == group)
        sizes = components.sizes[members]
        best = members[np.argsort(-sizes, kind="stable")[:k]]
        keep[best[components.sizes[best] > 0] if sizes.any() else members] = True
    return keep


def at_least(components: Components, voxels: float) -> np.ndarray:
    """The mask of the components of so many voxels or more; a hair less counts as so many."""
    return components.sizes >= voxels * (1 - 1e-9)


def attached(components: Components) -> np.ndarray:
    """The mask of the components that touch an anchor; of all where there is no anchor anywhere."""
    if components.attached is None or not components.anchored:
        return np.ones(len(components.sizes), bool)
    return components.attached
