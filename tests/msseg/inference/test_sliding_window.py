from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from msseg.inference.sliding_window import batch_limit, pad_to_patch, predict_logits
from planning.label_pairs import Sides
from planning.plan import Configuration

CPU = torch.device("cpu")


@pytest.fixture
def configuration(make_configuration: Callable[..., Configuration]) -> Callable[..., Configuration]:
    """Makes a configuration from its patch, without mirroring unless axes are given."""
    return lambda patch, mirror_axes=(): make_configuration(patch, mirror_axes=mirror_axes)


def identity(batch: torch.Tensor) -> torch.Tensor:
    return batch


def voxel_position(batch: torch.Tensor) -> list[torch.Tensor]:
    """A network that is no network's mirror image: it answers with the index of each voxel along the last axis."""
    position = torch.arange(batch.shape[-1], dtype=torch.float32)
    return [position.expand_as(batch[:, :1]).clone(), torch.zeros(1)]


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 3, 7), (1, 20, 9), (21, 13, 8), (17, 30, 11)])
def test_an_identity_network_gives_its_input_for_any_size(shape, configuration):
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    logits = predict_logits([identity], image, configuration((8, 8, 8), (0, 1, 2)), 2, CPU)
    assert logits.shape == image.shape and logits.dtype == torch.float32
    np.testing.assert_allclose(logits.numpy(), image, atol=1e-5)


def test_a_2d_configuration_gives_a_volume_slice_by_slice(configuration):
    seen = []

    def remember(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.shape[1:])
        return batch

    image = np.random.default_rng(0).normal(size=(1, 3, 5, 12)).astype(np.float32)
    logits = predict_logits([remember], image, configuration((8, 8), (0, 1)), 1, CPU)
    np.testing.assert_allclose(logits.numpy(), image, atol=1e-5)
    assert set(seen) == {(1, 8, 8)}


def test_what_is_missing_is_padded_with_zero_half_on_either_side():
    padded, inner = pad_to_patch(np.ones((1, 1, 2, 3)), (2, 5, 3))
    assert padded.dtype == np.float32
    np.testing.assert_array_equal(padded[0, 0], [[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]])
    assert not padded[0, 1].any()
    assert inner == (slice(0, 1), slice(1, 3), slice(0, 3))


def test_a_read_only_image_is_taken_and_left_as_it_was(configuration):
    image = np.ones((1, 8, 8, 8), dtype=np.float32)
    image.flags.writeable = False
    logits = predict_logits([identity], image, configuration((8, 8, 8)), 1, CPU, noise_repeats=1, noise_std=1.0)
    assert logits.std() > 0
    assert (image == 1).all()


def test_mirrored_answers_are_turned_back_before_averaging(configuration):
    image = np.zeros((1, 2, 2, 4), dtype=np.float32)
    plain = predict_logits([voxel_position], image, configuration((2, 2, 4)), 1, CPU)
    mirrored = predict_logits([voxel_position], image, configuration((2, 2, 4), (2,)), 1, CPU)
    other_axis = predict_logits([voxel_position], image, configuration((2, 2, 4), (0, 1)), 1, CPU)
    np.testing.assert_allclose(plain[0, 0, 0], [0, 1, 2, 3])
    np.testing.assert_allclose(mirrored[0, 0, 0], [1.5, 1.5, 1.5, 1.5])
    np.testing.assert_allclose(other_axis[0, 0, 0], [0, 1, 2, 3])


def test_every_combination_of_mirror_axes_is_shown_once(configuration):
    image = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    shown = []

    def remember(batch: torch.Tensor) -> torch.Tensor:
        shown.extend(batch.reshape(len(batch), -1).tolist())
        return batch

    predict_logits([remember], image, configuration((2, 2, 2), (0, 1, 2)), 1, CPU)
    assert len(shown) == 8 and len({tuple(tile) for tile in shown}) == 8
    assert sorted(tile[0] for tile in shown) == [0, 1, 2, 3, 4, 5, 6, 7]
    shown.clear()
    predict_logits([remember], image, configuration((2, 2, 2), (0, 1, 2)), 1, CPU, mirror=False)
    assert shown == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_folds_are_averaged_on_their_logits(configuration):
    image = np.ones((1, 4, 4, 4), dtype=np.float32)
    folds = [identity, lambda batch: 4 * batch, lambda batch: [batch - 2, batch]]
    logits = predict_logits(folds, image, configuration((2, 4, 4), (0,)), 1, CPU)
    np.testing.assert_allclose(logits, np.full((1, 4, 4, 4), 4 / 3), rtol=1e-6)


def test_overlapping_tiles_count_by_their_importance(configuration):
    starts = iter([1.0, 3.0, 5.0])  # the three tiles along the first axis answer with these
    image = np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)
    logits = predict_logits(
        [lambda batch: torch.cat([torch.full_like(tile[None], next(starts)) for tile in batch])],
        image,
        configuration((4, 1, 1)),
        1,
        CPU,
    )
    weights = np.exp(-0.5 * ((np.arange(4) - 2) / 0.5) ** 2)
    answers = np.zeros(8)
    total = np.zeros(8)
    for start, answer in [(0, 1), (2, 3), (4, 5)]:
        answers[start : start + 4] += weights * answer
        total[start : start + 4] += weights
    np.testing.assert_allclose(logits[0, :, 0, 0], answers / total, rtol=1e-4)


def test_noise_repeats_are_seeded_and_leave_the_clean_view_in(configuration):
    image = np.zeros((1, 4, 4, 4), dtype=np.float32)

    def predict(seed: int) -> np.ndarray:
        options = {"noise_repeats": 1, "noise_std": 1.0, "seed": seed}
        return predict_logits([identity], image, configuration((4, 4, 4)), 1, CPU, **options).numpy()

    np.testing.assert_array_equal(predict(1), predict(1))
    assert np.abs(predict(1) - predict(2)).max() > 0.1
    assert 0.3 < predict(1).std() < 0.7  # half of the noise's standard deviation, since one of two views is clean


def test_forward_passes_are_counted_and_can_be_ended(configuration):
    counts = []

    def stop_after_two(done: int, total: int) -> None:
        counts.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    image = np.random.default_rng(0).random((1, 64, 64, 192), dtype=np.float32)
    with pytest.raises(KeyboardInterrupt):
        predict_logits([identity], image, configuration((64, 64, 64)), 1, CPU, on_batch=stop_after_two)
    assert counts[0][0] == 1 and counts[-1] == (2, counts[0][1])


def test_the_result_does_not_depend_on_the_size_of_the_batches(monkeypatch, configuration):
    image = np.random.default_rng(0).normal(size=(1, 12, 9, 10)).astype(np.float32)
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
    setup = dataclasses.replace(configuration((4, 6, 6)), mirror_axes=(0, 2))
    results, batches = [], set()
    for voxels in (1, 1000, 1 << 20):
        monkeypatch.setattr("msseg.inference.memory.CPU_VOXELS_AT_ONCE", voxels)
        batches.add(batch_limit(CPU, setup.patch_size))
        results.append(predict_logits([network], image, setup, 2, CPU).numpy())
    assert len(batches) == 3
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], atol=1e-5)


def test_an_image_smaller_than_the_patch_is_continued_by_its_mirror_where_the_plan_says_so():
    padded, inner = pad_to_patch(np.array([[[[1.0, 2.0, 3.0]]]]), (1, 1, 8), "mirror")
    assert padded[0, 0, 0].tolist() == [3, 2, 1, 2, 3, 2, 1, 2]
    assert inner == (slice(0, 1), slice(0, 1), slice(2, 5))


def test_neighbouring_slices_are_channels_of_a_2d_network_mirrored_at_the_ends(make_configuration):
    image = np.random.default_rng(0).normal(size=(2, 4, 13, 9)).astype(np.float32)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(6, 3, 1).eval()
    configuration = make_configuration((8, 8), neighbour_slices=1)
    logits = predict_logits([network], image, configuration, 3, CPU)
    for index, (before, after) in enumerate([(1, 1), (0, 2), (1, 3), (2, 2)]):
        channels = np.concatenate([image[:, before], image[:, index], image[:, after]])
        expected = network(torch.from_numpy(channels)[None]).detach()[0]
        np.testing.assert_allclose(logits[:, index].numpy(), expected.numpy(), atol=1e-5)


def by_side(batch: torch.Tensor) -> torch.Tensor:
    """A network that calls what is bright left (1) in the left half of its tile, right (2) in the other, else 0."""
    bright = batch[:, 0]
    left = torch.zeros(batch.shape[-1])
    left[: batch.shape[-1] // 2] = 1
    return torch.stack([1 - bright, bright * left, bright * (1 - left)], dim=1)


SWAPPED = (0, 2, 1)


@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
@pytest.mark.parametrize("repeats", [0, 1])
def test_a_network_that_answers_by_side_is_at_one_with_its_mirrored_views(patch, repeats, configuration):
    dimensions = len(patch)
    shown = configuration(patch, tuple(range(dimensions)))
    image = np.random.default_rng(0).random((1, 8, 8, 8)).astype(np.float32)
    once = predict_logits([by_side], image, shown, 3, CPU, mirror=False)
    noise = {"noise_repeats": repeats, "noise_std": 0.0}
    sided = predict_logits([by_side], image, shown, 3, CPU, sides=Sides(dimensions - 1, SWAPPED), **noise)
    np.testing.assert_allclose(sided.numpy(), once.numpy(), atol=1e-6)
    confused = predict_logits([by_side], image, shown, 3, CPU, **noise)
    np.testing.assert_allclose(confused[1].numpy(), confused[2].numpy(), atol=1e-6)


def test_views_of_several_flips_swap_where_the_sides_are_among_them(configuration):
    image = np.random.default_rng(0).random((1, 8, 8, 8)).astype(np.float32)
    across = predict_logits([by_side], image, configuration((8, 8, 8), (0, 1)), 3, CPU, sides=Sides(2, SWAPPED))
    plain = predict_logits([by_side], image, configuration((8, 8, 8), (0, 1)), 3, CPU)
    assert torch.equal(across, plain)


def test_sides_that_swap_nothing_leave_every_bit_of_the_scores(configuration):
    image = np.random.default_rng(0).random((1, 9, 8, 12)).astype(np.float32)
    shown = configuration((8, 8, 8), (0, 1, 2))
    plain = predict_logits([by_side], image, shown, 3, CPU)
    assert torch.equal(plain, predict_logits([by_side], image, shown, 3, CPU, sides=Sides(2, (0, 1, 2))))


def test_a_tile_of_one_value_is_answered_for_both_sides(configuration):
    image = np.ones((1, 8, 8, 8), np.float32)
    shown = configuration((8, 8, 8), (2,))
    sided = predict_logits([by_side], image, shown, 3, CPU, sides=Sides(2, SWAPPED))
    np.testing.assert_allclose(sided.numpy(), predict_logits([by_side], image, shown, 3, CPU, mirror=False).numpy())
