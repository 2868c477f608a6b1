from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from msseg.inference.answers import Answer
from msseg.inference.passes import Passes
from msseg.inference.placement import Placement
from msseg.inference.sliding_window import make_window, predict_logits
from msseg.inference.streaming import Window, rolled, score_slabs, unrolled
from msseg.inference.tiles import tile_starts
from msseg.networks.build import build_network
from planning.label_pairs import Sides
from planning.plan import Configuration

CPU = torch.device("cpu")


@pytest.fixture
def window_on(make_configuration: Callable[..., Configuration]) -> Callable[..., Window]:
    """Makes the window of an image and a patch."""

    def make(image: np.ndarray, patch: tuple[int, ...], mirror_axes: tuple[int, ...] = (), **options) -> Window:
        configuration = make_configuration(patch, mirror_axes=mirror_axes)
        return make_window(image, configuration, 2, Passes([torch.nn.Identity()]), **options)

    return make


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def plain_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv3d(1, 2, 3, padding=1).eval()


def by_hand(network: Callable, image: np.ndarray, patch: tuple[int, ...], step: float, mirror_axes) -> np.ndarray:
    """The whole volume as the definition has it: weighted sums of all tiles and views over sums of weights."""
    scores, weights = np.zeros((2, *image.shape[1:])), np.zeros(image.shape[1:])
    profiles = [np.exp(-0.5 * ((np.arange(n) - n // 2) / (n / 8)) ** 2) for n in patch]
    importance = np.einsum("i,j,k->ijk", *profiles)
    flips = [f for count in range(len(mirror_axes) + 1) for f in itertools.combinations(mirror_axes, count)]
    axes = [tile_starts(n, size, step) for n, size in zip(image.shape[1:], patch, strict=True)]
    for corner in itertools.product(*axes):
        place = tuple(slice(low, low + size) for low, size in zip(corner, patch, strict=True))
        for flip in flips:
            turned = [1 + axis for axis in flip]
            shown = np.flip(image[(slice(None), *place)], turned).copy()
            with torch.inference_mode():
                answer = network(torch.from_numpy(shown)[None])[0].numpy()
            scores[(slice(None), *place)] += np.flip(answer, turned) * importance / len(flips)
        weights[place] += importance
    return scores / weights


@pytest.mark.parametrize("shape", [(20, 9, 10), (9, 20, 10), (9, 10, 23), (8, 8, 8), (31, 17, 12)])
@pytest.mark.parametrize(("patch", "step"), [((8, 8, 8), 0.5), ((4, 6, 8), 0.7), ((5, 7, 3), 0.3), ((8, 4, 4), 1.0)])
def test_the_slabs_put_together_are_the_weighted_mean_of_all_tiles_and_views(make_configuration, shape, patch, step):
    image, network = noise((1, *shape)), plain_network()
    configuration = make_configuration(patch, mirror_axes=(0, 2))
    logits = predict_logits([network], image, configuration, 2, CPU, step=step)
    np.testing.assert_allclose(logits, by_hand(network, image, patch, step, (0, 2)), atol=1e-5)


def test_rows_go_along_the_axis_of_which_the_patch_is_the_smallest_part(window_on):
    assert window_on(noise((1, 20, 9, 10)), (8, 8, 8)).axis == 0
    assert window_on(noise((1, 9, 30, 10)), (8, 8, 8)).axis == 1
    assert window_on(noise((1, 9, 10, 11)), (8, 8, 4)).axis == 2
    assert window_on(noise((1, 5, 64, 64)), (32, 32)).axis == 0  # slices
    assert rolled((1, 2, 3), 2) == (3, 1, 2) and unrolled(rolled((1, 2, 3), 1), 1) == (1, 2, 3)


def test_a_slab_is_handed_on_as_soon_as_no_tile_touches_it_any_more(window_on):
    window = window_on(noise((2, 24, 8, 8)), (8, 8, 8))
    events: list[str] = []

    def forward(tiles: torch.Tensor) -> Answer:
        events.append("tile")
        return Answer(tiles)

    for slab in score_slabs(window, forward, Placement(CPU, CPU, 1)):
        events.append(f"{slab.shape[1]} rows")
    assert window.starts[0] == [0, 4, 8, 12, 16]
    assert events == ["tile", *["tile", "4 rows"] * 4, "8 rows"]


def test_only_one_row_of_tiles_is_held(window_on, monkeypatch):
    window = window_on(noise((2, 60, 8, 9)), (6, 8, 8))
    made: list[tuple[int, ...]] = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda size, **options: made.append(tuple(size)) or zeros(size, **options))
    for _ in score_slabs(window, Answer, Placement(CPU, CPU, 1)):
        pass
    assert made == [(2, 6, 8, 9)]


def test_half_precision_is_within_its_bound(window_on):
    image = noise((2, 30, 12, 13))
    window = window_on(image, (8, 8, 8), mirror_axes=(0, 1))
    placement = Placement(CPU, CPU, 2, torch.float16)
    with torch.inference_mode():
        slabs = [slab.clone() for slab in score_slabs(window, Answer, placement)]
    assert slabs[0].dtype is torch.float16
    found = torch.cat(slabs, dim=1).float().numpy()
    assert np.abs(found - image).max() <= 8 * 2**-11 * np.abs(image).max()


def blocky(shape: tuple[int, ...]) -> np.ndarray:
    """Noise beside a region of zeros and one of ones, where tiles hold a single value."""
    image = noise((1, *shape))
    image[:, : shape[0] // 2, :, : shape[2] // 2] = 0
    image[:, shape[0] // 2 :, :, : shape[2] // 2] = 1
    return image


@pytest.mark.parametrize("mirror_axes", [(), (0, 1, 2)])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_tiles_of_one_value_are_shown_once_and_the_scores_are_equal_to_the_bit(
    make_configuration, mirror_axes, batch_size
):
    configuration = make_configuration((8, 8, 8), mirror_axes=mirror_axes)
    network = build_network(configuration, 1, 2, torch.Generator().manual_seed(0)).eval()
    passes = Passes([network])
    window = make_window(blocky((16, 8, 24)), configuration, 2, passes)
    placement = Placement(CPU, CPU, batch_size)
    passes_done, results = [], []
    for one in (window, dataclasses.replace(window, reuse=False)):
        with passes.session(CPU):
            slabs = score_slabs(
                one, passes.on(CPU), placement, on_batch=lambda done, total: passes_done.append((done, total))
            )
            results.append(torch.cat([slab.clone() for slab in slabs], dim=1))
    assert torch.equal(*results)
    assert len(set(window.constants.values())) == 2 and len(window.constants) > 2
    saved = next(index for index, (done, _) in enumerate(passes_done) if index and done == 1)
    assert all(done == total for done, total in (passes_done[saved - 1], passes_done[-1]))
    if batch_size == 1:
        views = 2 ** len(mirror_axes)
        assert saved == 2 + (len(window.corners) - len(window.constants)) * views
        assert len(passes_done) - saved == len(window.corners) * views


def test_a_tile_of_one_value_in_each_channel_is_known_by_all_of_them(window_on):
    image = np.zeros((2, 8, 8, 24), np.float32)
    image[1] = 3
    image[0, :, :, 16:] = 1
    image[1, 0, 0, 0] = 3.5
    constants = window_on(image, (8, 8, 8), step=1.0).constants
    assert sorted(constants) == [(0, 0, 8), (0, 0, 16)] and len(set(constants.values())) == 2


def test_noise_tells_tiles_of_one_value_apart(window_on):
    image = np.zeros((1, 8, 8, 24), np.float32)
    assert window_on(image, (8, 8, 8)).constants
    assert not window_on(image, (8, 8, 8), noise_repeats=1).constants


def test_all_batches_of_a_case_have_one_size(window_on):
    sizes = []

    def forward(tiles: torch.Tensor) -> Answer:
        sizes.append(len(tiles))
        return Answer(tiles)

    window = window_on(noise((2, 8, 8, 40)), (8, 8, 8))
    assert len(window.corners) == 9
    found = torch.cat([slab.clone() for slab in score_slabs(window, forward, Placement(CPU, CPU, 4))], dim=1)
    assert sizes == [3, 3, 3]
    np.testing.assert_allclose(found.movedim(1, 3), window.image, atol=1e-5)
    sizes.clear()
    list(score_slabs(window, forward, Placement(CPU, CPU, 5)))
    assert sizes == [5, 5]


@pytest.mark.parametrize(("sides", "seen"), [(Sides(2, (0, 2, 1)), [True, False]), (None, [True, True])])
def test_what_is_seen_on_one_side_is_seen_there_in_every_view(sides, seen, make_configuration):
    def by_side(tiles: torch.Tensor) -> Answer:
        halves = [half.flatten(1).amax(1) for half in tiles[:, 0].split(4, dim=-1)]
        return Answer(torch.zeros(len(tiles), 3, *tiles.shape[2:]), torch.stack(halves, dim=1))

    image = np.zeros((1, 8, 8, 8), np.float32)
    image[..., 1] = 1
    configuration = make_configuration((8, 8, 8), mirror_axes=(0, 2))
    window = make_window(image, configuration, 3, Passes([torch.nn.Identity()]), sides=sides)
    found = torch.zeros(2, dtype=torch.bool)
    list(score_slabs(dataclasses.replace(window, guided=1), by_side, Placement(CPU, CPU, 4), found))
    assert found.tolist() == seen
