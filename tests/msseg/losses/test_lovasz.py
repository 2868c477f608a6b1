from __future__ import annotations

import numpy as np
import pytest
import torch

from msseg.losses.lovasz import jaccard_extension, lovasz_hinge, lovasz_loss
from msseg.losses.probabilities import log_probabilities


def jaccard_loss(wrong: set[int], members: set[int]) -> float:
    """Jaccard loss of a segmentation that is wrong on these elements, by its definition on sets."""
    return len(wrong) / len(members | wrong) if wrong else 0.0


def extension_by_sets(errors: np.ndarray, here: np.ndarray) -> float:
    """Lovász extension at `errors`: each times the loss that its element adds to those with larger errors."""
    members, wrong, total = set(np.flatnonzero(here).tolist()), set(), 0.0
    for index in np.argsort(-errors, kind="stable").tolist():
        grown = wrong | {index}
        total += max(errors[index], 0.0) * (jaccard_loss(grown, members) - jaccard_loss(wrong, members))
        wrong = grown
    return total


def random_logits(classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, 4, 5, generator=generator, dtype=torch.float64)
    return logits, torch.randint(-1, classes, (2, 4, 5), generator=generator)


def test_hinge_of_two_voxels_worked_by_hand() -> None:
    # Errors 1 + 1 (background of logit 1) and 1 - ½; the first makes the Jaccard loss ½, both make it 1.
    prediction = log_probabilities(torch.tensor([[[0.5, 1.0]]]))
    torch.testing.assert_close(lovasz_hinge(prediction, torch.tensor([[1, 0]])), torch.tensor([2 * 0.5 + 0.5 * 0.5]))


def test_hinge_is_zero_where_every_logit_is_a_margin_away_from_zero() -> None:
    prediction = log_probabilities(torch.tensor([[[1.5, -1.0, 3.0]]]))
    assert lovasz_hinge(prediction, torch.tensor([[1, 0, 1]])).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_extension_is_the_one_defined_on_sets(seed: int) -> None:
    generator = np.random.default_rng(seed)
    errors, here = generator.normal(size=(3, 30)), generator.random((3, 30)) < (0.3, 0.0, 1.0)[seed % 3]
    ours = jaccard_extension(torch.from_numpy(errors), torch.from_numpy(here))
    np.testing.assert_allclose(ours.numpy(), [extension_by_sets(*row) for row in zip(errors, here, strict=True)])


def test_extension_at_a_corner_is_the_jaccard_loss_itself() -> None:
    here = torch.tensor([[True, True, False, False]])
    wrong = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert jaccard_extension(wrong, here).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_loss_is_the_definition_on_the_labelled_voxels_of_each_image(classes: int) -> None:
    logits, target = random_logits(classes)
    per_image = []
    for scores, labels in zip(logits.softmax(1).flatten(2).numpy(), target.flatten(1).numpy(), strict=True):
        known, labels = scores[:, labels >= 0], labels[labels >= 0]
        if classes == 2:
            errors = 1 - np.where(labels == 1, 1, -1) * np.log(known[1] / known[0])
            per_image.append(extension_by_sets(errors, labels == 1))
        else:
            present = np.unique(labels)
            terms = [extension_by_sets(np.abs((labels == c) - known[c]), labels == c) for c in present]
            per_image.append(np.mean(terms))
    torch.testing.assert_close(lovasz_loss(logits.log_softmax(1), target).item(), float(np.mean(per_image)))


@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_is_that_of_finite_differences(classes: int) -> None:
    logits, target = random_logits(classes, seed=3)
    assert torch.autograd.gradcheck(lambda z: lovasz_loss(z.log_softmax(1), target), logits.requires_grad_())


def test_growth_keeps_its_digits_in_a_large_image() -> None:
    # All errors are 1, so the extension is the Jaccard loss of an image that is wrong everywhere: exactly 1.
    here = torch.arange(2_000_000)[None] % 3 == 0
    assert jaccard_extension(torch.ones(1, 2_000_000), here).item() == pytest.approx(1, abs=1e-6)
