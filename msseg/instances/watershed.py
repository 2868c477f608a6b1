"""From probabilities to objects: seeded watershed on how deep inside an object a pixel is thought to be."""

from __future__ import annotations

import cc3d
import numpy as np

from msseg.instances.coding import CORNERS, LEVELS, inner_distance, widened
from msseg.instances.decision import Decision

# Height of each level (background, border, rim, core). A network that has hardly learnt the rare border still finds
# it a little likelier between objects: so far below the rest, that little parts more of them. An even choice of rim and
# core is a seed at the usual threshold, one of border and core is not.
HEIGHTS = (0.0, -1.0, 0.25, 1.0)
_PIECE = 1 << 22


def instances_from(probabilities_kzyx: np.ndarray, decision: Decision) -> np.ndarray:
    """Object numbers (z, y, x) int32 from probabilities (k, z, y, x), background first: 1 … N without gaps.

    Four classes are levels (`msseg.instances.coding.LEVELS`). Any other number is background and foreground: there
    the height is the distance to the outline, divided by the largest of what hangs together.

    Foreground is what exceeds `decision.foreground`, seeds are its pieces of a height above `decision.seed`, and the
    watershed of the height grows them over the foreground. Foreground that hangs together without a seed is an object
    too. Objects of fewer than `decision.smallest_px` pixels are dropped. Corners connect; distances take pixels for
    isotropic. The same input gives the same objects.
    """
    regions = _components(1 - probabilities_kzyx[0] > decision.foreground)
    has_levels = len(probabilities_kzyx) == len(LEVELS)
    height = _expected_height(probabilities_kzyx) if has_levels else _relative_depth(regions)
    objects = _grown(regions, height, decision.seed)
    del regions, height  # each is as large as the image
    return large_enough(objects, decision.smallest_px)


def _components(mask: np.ndarray) -> np.ndarray:
    """Numbered components int32 of a mask (z, y, x)."""
    padded = np.pad(mask, 1)
    components = cc3d.connected_components(padded, connectivity=CORNERS, out_dtype=np.uint32)
    return components[1:-1, 1:-1, 1:-1].astype(np.int32)


def _expected_height(probabilities: np.ndarray) -> np.ndarray:
    height = np.zeros(probabilities.shape[1:], np.float32)
    for weight, probability in zip(HEIGHTS[1:], probabilities[1:], strict=True):
        height += np.float32(weight) * probability
    return height


def _relative_depth(regions: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    height = np.zeros(regions.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        wide = widened(box, 1, regions.shape)
        mask = regions[wide] == number
        inner = inner_distance(mask)
        height[wide][mask] = inner[mask] / inner.max()
    return height


def _grown(regions: np.ndarray, height: np.ndarray, threshold: float) -> np.ndarray:
    """Object numbers: a region of at most one seed is an object, one of several is shared among them."""
    from scipy import ndimage

    seeds = _components((height > threshold) & (regions > 0))
    shared = np.flatnonzero(_seeds_of_each(regions, seeds) > 1)
    objects = regions.copy()
    boxes = ndimage.find_objects(regions)
    first_free = len(boxes) + 1
    for number in shared:
        box = boxes[number - 1]
        mask = regions[box] == number
        grown = _watershed(height[box], np.where(mask, seeds[box], 0), mask)
        objects[box][mask] = grown[mask] + (first_free - 1)
    return objects


def _seeds_of_each(regions: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The number of seeds in each region, that of the background first (0)."""
    where = seeds > 0
    region_of = np.zeros(int(seeds.max(initial=0)) + 1, np.int64)
    region_of[seeds[where]] = regions[where]
    return np.bincount(region_of[1:], minlength=int(regions.max(initial=0)) + 1)


def _watershed(height: np.ndarray, seeds: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from skimage.segmentation import watershed

    grown: np.ndarray = watershed(-height, seeds, connectivity=np.ones((3,) * mask.ndim), mask=mask)
    return grown


def large_enough(objects: np.ndarray, smallest_px: int) -> np.ndarray:
    """The objects of at least `smallest_px` pixels, numbered anew from 1 without gaps, int32."""
    sizes = _sizes(objects)
    kept = sizes >= max(smallest_px, 1)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[objects]


def _sizes(objects: np.ndarray) -> np.ndarray:
    """Pixels of each number; counted in pieces, as `bincount` makes 64-bit copies of what it counts."""
    flat, numbers = objects.reshape(-1), int(objects.max(initial=0)) + 1
    sizes = np.zeros(numbers, np.int64)
    for start in range(0, flat.size, _PIECE):
        sizes += np.bincount(flat[start : start + _PIECE], minlength=numbers)
    return sizes
