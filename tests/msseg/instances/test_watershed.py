from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from msseg.data.image import read_label
from msseg.evaluation.objects import ObjectCounts, object_counts, object_metrics
from msseg.instances.coding import BORDER, CORE, LEVELS, RIM, InstanceCoding
from msseg.instances.decision import Decision
from msseg.instances.watershed import instances_from


def certain(levels: np.ndarray) -> np.ndarray:
    """Probabilities 0 and 1 (4, z, y, x) of levels."""
    return np.stack([levels == level for level in range(len(LEVELS))]).astype(np.float32)


def round_trip(ids: np.ndarray, decision: Decision | None = None) -> np.ndarray:
    return instances_from(certain(InstanceCoding(1).to_index(ids)), decision or Decision())


def blobs(shape: tuple[int, ...], count: int, largest: int, seed: int) -> np.ndarray:
    """Numbered balls, many of which touch, where they do parted halfway; each is of some size and hangs together."""
    generator = np.random.default_rng(seed)
    centres = np.array([[generator.integers(0, n) for n in shape] for _ in range(count)])
    radii = generator.integers(4, largest, count)
    grid = np.indices(shape).reshape(len(shape), -1).T
    distance = np.linalg.norm(grid[:, None] - centres[None], axis=2)
    nearest = distance.argmin(axis=1)
    ids = np.where(distance.min(axis=1) <= radii[nearest], nearest + 1, 0)
    return np.where(np.bincount(ids)[ids] > 30, ids, 0).reshape(shape).astype(np.int32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shape", "count", "largest"), [((1, 90, 100), 25, 12), ((20, 32, 36), 12, 9)])
def test_objects_come_back_from_their_levels(shape: tuple[int, ...], count: int, largest: int, seed: int):
    ids = blobs(shape, count, largest, seed)
    found = round_trip(ids)
    np.testing.assert_array_equal(found > 0, ids > 0)
    counts = object_counts(found, ids)
    assert counts.predicted == counts.expected == counts.matched[0]
    assert object_metrics(counts)["pq"] > 0.95


def test_numbers_run_from_one_without_gaps_and_are_the_same_every_time():
    ids = blobs((1, 90, 100), 25, 12, seed=4)
    found = round_trip(ids)
    assert np.unique(found).tolist() == list(range(found.max() + 1)) and found.dtype == np.int32
    np.testing.assert_array_equal(found, round_trip(ids))


def test_real_objects_come_back_from_their_levels(test_data: Path):
    files = sorted((test_data / "DSB2018" / "instances").glob("*.png"))[::10]
    counts = ObjectCounts()
    for file in files:
        ids = read_label(file)[0]
        counts += object_counts(round_trip(ids), ids)
    values = object_metrics(counts)
    assert values["object_f1"] > 0.999 and values["object_f1_90"] > 0.985


def test_uncertain_seeds_are_weighed_level_by_level():
    # Rim and core as likely as one another: 0.5 · 1 + 0.5 · ¼ is a seed, 0.75 · 1 - 0.25 · 1 is none.
    probabilities = np.zeros((4, 1, 1, 5), np.float32)
    probabilities[[RIM, CORE], ..., :2] = probabilities[[RIM, CORE], ..., 3:] = 0.5
    probabilities[BORDER, ..., 2], probabilities[CORE, ..., 2] = 0.25, 0.75
    assert instances_from(probabilities, Decision()).tolist() == [[[1, 1, 1, 2, 2]]] or (
        instances_from(probabilities, Decision()).tolist() == [[[1, 1, 2, 2, 2]]]
    )
    assert instances_from(probabilities, Decision(seed=0.2)).tolist() == [[[1, 1, 1, 1, 1]]]


def test_foreground_without_a_seed_is_an_object_of_its_own():
    levels = np.array([[[RIM, RIM, 0, RIM, CORE, RIM]]])
    assert instances_from(certain(levels), Decision()).tolist() == [[[1, 1, 0, 2, 2, 2]]]


def test_small_objects_are_dropped_and_the_rest_is_renumbered():
    levels = np.array([[[RIM, RIM, 0, RIM, CORE, RIM]]])
    assert instances_from(certain(levels), Decision(smallest_px=3)).tolist() == [[[0, 0, 0, 1, 1, 1]]]


def test_the_threshold_of_the_foreground_is_on_all_but_the_background():
    probabilities = np.array([0.6, 0.1, 0.1, 0.2], np.float32).reshape(4, 1, 1, 1)
    assert instances_from(probabilities, Decision()).item() == 0
    assert instances_from(probabilities, Decision(foreground=0.3)).item() == 1


def test_without_levels_two_discs_part_where_they_are_narrow():
    grid = np.indices((40, 64))
    discs = [((grid - np.array(centre).reshape(2, 1, 1)) ** 2).sum(0) <= 14**2 for centre in ((20, 18), (20, 45))]
    foreground = (discs[0] | discs[1]).astype(np.float32)[None]
    found = instances_from(np.stack([1 - foreground, foreground]), Decision())
    assert found.max() == 2 and ndimage.label(foreground)[1] == 1
    assert found[0, 20, 10] != found[0, 20, 50]
    assert object_metrics(object_counts(found[0], discs[0] + 2 * (discs[1] & ~discs[0])))["aji"] > 0.95


def test_nothing_gives_nothing():
    background = np.zeros((4, 2, 5, 6), np.float32)
    background[0] = 1
    assert not instances_from(background, Decision()).any()
