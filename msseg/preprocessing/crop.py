"""The box and the mask of what an image shows, where zero means nothing was measured there."""

from __future__ import annotations

import cc3d
import numpy as np


def nonzero_box(image_czyx: np.ndarray) -> tuple[slice, ...]:
    """The smallest box (one slice a spatial axis) that holds every voxel where some channel is not zero.

    An image of nothing but zeros gives its whole extent. Filling holes would not change the box, and only the
    faces are searched inwards, so that a CT without empty margins costs next to nothing.
    """
    box = [slice(0, n) for n in image_czyx.shape[1:]]
    for axis in range(len(box)):
        all_channels = (slice(None), *box)
        view = np.moveaxis(image_czyx[all_channels], axis + 1, 0)
        first = next((i for i in range(len(view)) if view[i].any()), None)
        if first is None:
            return tuple(slice(0, n) for n in image_czyx.shape[1:])
        last = next(i for i in reversed(range(len(view))) if view[i].any())
        box[axis] = slice(first, last + 1)
    return tuple(box)


def nonzero_mask(image_czyx: np.ndarray) -> np.ndarray:
    """True (z, y, x) where some channel is not zero, and in the holes enclosed by such voxels.

    A hole is zero voxels joined by faces that do not reach the image's border.
    """
    mask = image_czyx[0] != 0
    for channel in image_czyx[1:]:
        mask |= channel != 0
    if mask.all():
        return mask
    components = cc3d.connected_components(~mask, connectivity=6)
    outside = np.zeros(int(components.max()) + 1, bool)
    for axis in range(components.ndim):
        for end in (0, -1):
            outside[np.unique(np.take(components, end, axis))] = True
    outside[0] = False  # component 0 is the mask itself
    return ~outside[components]
