"""What guidance gains on images without the organ: python benchmarks/guidance.py --data Task04_Hippocampus

Trains small 2D networks with and without classification-guided modules on axial slices of the hippocampus, a quarter of
which show none of it, and predicts the slices of other cases with the real predictor, each slice an image of its own.
Prints, for slices without the organ, how many have a false positive and how many voxels; for slices with it, the mean
Dice and how many were emptied. A guided network is judged twice, with its modules' word and without.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from msseg.data.image import read_image, read_label
from msseg.inference.sliding_window import predict_logits
from msseg.losses import SupervisedLoss, build_loss
from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from planning.networks import network_row
from planning.plan import Configuration
from planning.weights import SUPERVISION

# Half resolution in plane, a quarter of the work: this runs on one thread.
PATCH = (32, 24)
LEVELS = 5
CPU = torch.device("cpu")
# The networks, their widths at full resolution (small: one thread) and the kind of guidance that is theirs.
NETWORKS = {"unet_sharp": (8, "branches"), "unet3p_unified": (4, "bottleneck")}


@dataclass(frozen=True)
class Slices:
    """Images (n, y, x), standardised per volume, and labels (n, y, x) of 0 and 1."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Schooling:
    """How a network is trained: Adam from `rate` down; what the modules learn by, weighed beside the `loss`."""

    steps: int
    batch: int
    rate: float
    loss: str
    presence_weight: float


@dataclass(frozen=True)
class Judgement:
    """Counts over the slices without the organ, then over those with it; Dice is a mean over these."""

    without: int
    with_false_positive: int
    false_voxels: int
    with_organ: int
    emptied: int
    dice: float


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    names = sorted(path.name for path in (arguments.data / "labelsTr").glob("*.nii.gz") if path.name[0] != ".")
    test = read_slices(arguments.data, names[:: arguments.every])
    training = read_slices(arguments.data, [name for name in names if name not in names[:: arguments.every]])
    schooling = Schooling(**{name: getattr(arguments, name) for name in Schooling.__dataclass_fields__})
    absent = 1 - training.labels.any((1, 2)).mean()
    print(f"{len(training.images)} slices to train on, {absent:.0%} without the organ; {len(test.images)} to test on")
    print("seed  network         guided  word    images of   voxels   emptied of   Dice   seconds")
    for seed in arguments.seeds:
        for name in arguments.networks:
            for guidance in ("none", NETWORKS[name][1])[arguments.only_guided :]:
                compare(name, guidance, training, test, schooling, seed)


def compare(name: str, guidance: str, training: Slices, test: Slices, schooling: Schooling, seed: int) -> None:
    """Train one network and print a line for each way to predict with it."""
    plan = configuration(name, guidance)
    begin = time.perf_counter()
    network = trained(plan, training, schooling, seed)
    seconds = time.perf_counter() - begin
    for word in (False, True) if guidance != "none" else (False,):
        found = judge(network, plan, test, word)
        print(
            f"{seed:4}  {name:14}  {'no' if guidance == 'none' else 'yes':6}  {'heard' if word else 'not':5}"
            f"  {found.with_false_positive:6} {found.without:4}   {found.false_voxels:6}"
            f"   {found.emptied:7} {found.with_organ:4}  {found.dice:.3f}   {seconds:7.0f}",
            flush=True,
        )


def read_slices(data: Path, names: list[str]) -> Slices:
    """All axial slices of the cases at half resolution, cut or padded with 0 to the patch, around its middle."""
    images, labels = [], []
    for name in names:
        image = read_image([data / "imagesTr" / name])[0][0].astype(np.float32)
        image = fitted((image - image.mean()) / image.std())
        label = fitted((read_label(data / "labelsTr" / name)[0] > 0).astype(np.int64))
        images.append(image.reshape(len(image), PATCH[0], 2, PATCH[1], 2).mean((2, 4)))
        labels.append(label[:, ::2, ::2])
    return Slices(np.concatenate(images), np.concatenate(labels))


def fitted(volume: np.ndarray) -> np.ndarray:
    """A volume (z, y, x) cut or padded with 0 in plane, to twice the patch."""
    for axis, wanted in enumerate((2 * PATCH[0], 2 * PATCH[1]), start=1):
        missing = max(wanted - volume.shape[axis], 0)
        widths = [(0, 0)] * 3
        widths[axis] = (missing // 2, missing - missing // 2)
        volume = np.pad(volume, widths)
        start = (volume.shape[axis] - wanted) // 2
        volume = np.take(volume, range(start, start + wanted), axis)
    return volume


def configuration(name: str, guidance: str) -> Configuration:
    """A small network of the table on the patch."""
    options = {"guidance": guidance}
    row = network_row(name, options)
    encoder, decoder = row.depths(LEVELS)
    return Configuration(
        name="2d",
        dimensions=2,
        spacing_mm=(1.0, 1.0),
        median_shape=PATCH,
        patch_size=PATCH,
        batch_size=16,
        network=name,
        features=tuple(NETWORKS[name][0] * 2**level for level in range(LEVELS)),
        strides=((2, 2),) * (LEVELS - 1),
        kernel_sizes=((3, 3),) * LEVELS,
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        supervision_weights=SUPERVISION[row.supervision](len(row.supervised(LEVELS))),
        batch_dice=True,
        dummy_2d=False,
        image_order=3,
        label_order=1,
        score_order=1,
        mirror_axes=(),
        network_options=options,
    )


def trained(plan: Configuration, slices: Slices, schooling: Schooling, seed: int) -> GridNetwork:
    """The network after some steps of Adam, the rate falling along a cosine, on random slices, flipped."""
    torch.manual_seed(seed)
    network = build_network(plan, 1, 2, torch.Generator().manual_seed(seed)).train()
    loss = SupervisedLoss(
        build_loss(schooling.loss, (0.5, 0.5), plan.batch_dice),
        plan.supervision_weights,
        plan.row.level_targets,
        presence_weight=schooling.presence_weight,
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=schooling.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, schooling.steps)
    for images, labels in batches(slices, schooling.steps, schooling.batch, seed):
        optimiser.zero_grad()
        loss(network(images), labels).backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def batches(slices: Slices, steps: int, size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`steps` batches of images (b, 1, y, x) and labels (b, y, x)."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = random.choice(len(slices.images), size, replace=False)
        flips = tuple(axis for axis in (1, 2) if random.random() < 1 / 2)
        images, labels = (np.flip(each[chosen], flips).copy() for each in (slices.images, slices.labels))
        yield torch.from_numpy(images)[:, None], torch.from_numpy(labels)


def judge(network: GridNetwork, plan: Configuration, test: Slices, guidance: bool) -> Judgement:
    """What the predictor makes of each slice by itself, by all branches."""
    without = positive = voxels = emptied = 0
    dice: list[float] = []
    for image, label in zip(test.images, test.labels, strict=True):
        logits = predict_logits([network], image[None, None], plan, 2, CPU, mirror=False, guidance=guidance)
        found = int((prediction := logits.argmax(0)[0].numpy()).sum())
        if not label.any():
            without += 1
            positive += found > 0
            voxels += found
            continue
        emptied += not found
        dice.append(2 * int((prediction & label).sum()) / (found + int(label.sum())))
    return Judgement(without, positive, voxels, len(dice), emptied, float(np.mean(dice)) if dice else math.nan)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with imagesTr and labelsTr")
    parser.add_argument("--every", type=int, default=10, help="every how many cases one is for testing")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--loss", default="dice_ce")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--presence-weight", type=float, default=1.0)
    parser.add_argument("--only-guided", action="store_true", help="leave out the networks without modules")
    return parser.parse_args()


if __name__ == "__main__":
    main()
