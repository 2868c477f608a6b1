from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from msseg.instances.coding import InstanceCoding
from msseg.losses import border, build_loss
from msseg.losses.border import border_cross_entropy, border_weights, instances_of


def weights_by_all_distances(instances: np.ndarray, w0: float, sigma_px: float) -> np.ndarray:
    """The border weights from the distance of every voxel to every voxel of every instance."""
    voxels = np.argwhere(np.ones(instances.shape)).astype(float)
    numbers = np.unique(instances[instances > 0])
    each = np.stack([cdist(voxels, np.argwhere(instances == number)).min(axis=1) for number in numbers])
    nearest, second = np.sort(each, axis=0)[:2]
    weights = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma_px**2))
    return np.where(instances > 0, 0, weights.reshape(instances.shape))


def cells(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Numbered blocks of 3 voxels an edge, the later over the earlier."""
    generator, instances = np.random.default_rng(seed), np.zeros(shape, dtype=np.int32)
    for number in range(1, count + 1):
        corner = [generator.integers(0, length - 3) for length in shape]
        instances[tuple(slice(start, start + 3) for start in corner)] = number
    return instances


def test_gap_between_two_cells_worked_by_hand() -> None:
    # The voxel beside one cell is 1 from it and 3 from the other, the middle one 2 from both: 4 everywhere.
    weights = border_weights(torch.tensor([[1, 0, 0, 0, 2]]), w0=10.0, sigma_px=2.0)
    gap = 10 * np.exp(-(4**2) / (2 * 2**2))
    np.testing.assert_allclose(weights.numpy(), [[0, gap, gap, gap, 0]], rtol=1e-6)


@pytest.mark.parametrize(("shape", "count"), [((40, 33), 6), ((12, 15, 18), 4)])
@pytest.mark.parametrize("sigma_px", [5.0, 1.2])
def test_weights_are_those_from_all_distances(shape: tuple[int, ...], count: int, sigma_px: float) -> None:
    instances = cells(shape, count, seed=len(shape))
    ours = border_weights(torch.from_numpy(instances)[None], w0=10.0, sigma_px=sigma_px)[0]
    np.testing.assert_allclose(ours.numpy(), weights_by_all_distances(instances, 10.0, sigma_px), rtol=1e-5, atol=1e-6)


def test_instances_are_connected_by_faces_within_a_class_and_ignored_voxels_are_none() -> None:
    target = torch.tensor([[[1, 0, 2, 2], [0, 1, 2, -1]]])
    assert instances_of(target).tolist() == [[[1, 0, 3, 3], [0, 2, 3, 0]]]


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 1, 0], [-1, -1, -1, -1], [1, 1, 1, 1]])
def test_fewer_than_two_cells_leave_the_class_weights_alone(labels: list[int]) -> None:
    target = torch.tensor([labels])
    assert border_weights(instances_of(target)).tolist() == [[0.0] * 4]


def test_loss_is_the_weighted_mean_of_torchs_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 2, 16, 16, generator=generator), torch.zeros(2, 16, 16, dtype=torch.int64)
    target[0, 2:6, 2:6] = target[0, 8:12, 3:9] = target[1, 5:8, 5:8] = 1
    target[:, :, 14:] = -1
    weights = torch.tensor((0.5, 1.5))[target.clamp(min=0)] + border_weights(instances_of(target), 10.0, 5.0)
    entropy = torch.nn.functional.cross_entropy(logits, target, reduction="none", ignore_index=-1)
    expected = (weights * entropy).sum() / (target >= 0).sum()
    torch.testing.assert_close(build_loss("border_ce", (0.25, 0.75), True)(logits, target), expected)


def test_given_instances_take_the_place_of_connected_components() -> None:
    target = torch.tensor([[1, 1, 0, 1]])
    prediction, equal = torch.zeros(1, 2, 4).log_softmax(1), torch.ones(2)
    apart = border_cross_entropy(prediction, target, equal, 10.0, 5.0, instances=torch.tensor([[1, 1, 0, 2]]))
    together = border_cross_entropy(prediction, target, equal, 10.0, 5.0, instances=torch.tensor([[1, 1, 0, 1]]))
    torch.testing.assert_close(apart, border_cross_entropy(prediction, target, equal, 10.0, 5.0))
    assert together < apart


def test_weights_are_made_once_for_a_target_and_anew_after_it_was_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(border, "instances_of", lambda target, levels: made.append(1) or instances_of(target, levels))
    loss, target = build_loss("border_ce", (1.0, 1.0), True), torch.tensor([[1, 0, 1]])
    first = [loss(torch.zeros(1, 2, 3), target) for _ in range(3)]
    assert len(made) == 1
    target[0, 2] = 0
    assert loss(torch.zeros(1, 2, 3), target) < first[0]
    assert len(made) == 2


def test_of_levels_rim_and_core_are_cells_and_border_lies_between_them() -> None:
    touching = torch.tensor([[0, 2, 3, 2, 1, 1, 2, 3, 0]])
    assert instances_of(touching, levels=True).tolist() == [[0, 1, 1, 1, 0, 0, 2, 2, 0]]
    prediction, equal = torch.zeros(1, 4, 9).log_softmax(1), torch.ones(4)
    expected = border_cross_entropy(
        prediction, touching, equal, 10.0, 5.0, instances=torch.tensor([[0, 1, 1, 1, 0, 0, 2, 2, 0]])
    )
    loss = build_loss("border_ce", (1.0,) * 4, True, levels=True)
    torch.testing.assert_close(loss(torch.zeros(1, 4, 9), touching), expected)


def test_levels_of_objects_that_touch_give_the_objects_back() -> None:
    ids = np.zeros((30, 40), np.int32)
    ids[5:25, 4:18], ids[5:25, 18:30], ids[10:20, 31:38] = 1, 2, 3
    levels = torch.from_numpy(InstanceCoding(1).to_index(ids).astype(np.int64))[None]
    found = instances_of(levels, levels=True)[0].numpy()
    assert set(found[12, 4:16]) == {1} and set(found[12, 20:28]) == {2} and found.max() == 3
    # Across the contact, where labels know one cell, the weight is nearly that of two cells side by side.
    across = border_weights(torch.from_numpy(found)[None])[0]
    assert across[15, 17] > 5 and across[15, 10] == 0
