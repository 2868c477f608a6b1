"""Point rendering: the points it chooses on real images, and what it costs beside plain upsampling.

    python points.py picture DSB2018 --out points.png
    python points.py cost [--patch 256 256] [--levels 5] [--batch 1]

DSB2018 is a folder with images/ and masks/ as PNG. One thread; `cost` measures every network in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msseg.evaluation.pictures import save_figure
from msseg.evaluation.point_pictures import ChosenPoints, near_boundary, points_figure, share_near_boundary
from msseg.losses import SupervisedLoss, build_loss
from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from planning.networks import NETWORKS
from planning.plan import Configuration

# Each beside what it adds rendering to: the same row with its points switched off.
NETWORKS_MEASURED: dict[str, tuple[str, dict[str, Any]]] = {
    "unet2p": ("unet2p", {}),
    "point_unet2p points=none": ("point_unet2p", {"points": "none"}),
    "point_unet2p": ("point_unet2p", {}),
    "anu_net": ("anu_net", {}),
    "render_unet points=none": ("render_unet", {"points": "none"}),
    "render_unet": ("render_unet", {}),
}
_HELD_OUT = 8
_CROP = 128
_BATCH = 4
_REPEATS = 3
_BOUNDARY_PX = 2.0


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    arguments.command(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    picture = commands.add_parser("picture", help="train a small Render U-Net and draw the points that it chooses")
    picture.add_argument("data", type=Path)
    picture.add_argument("--out", type=Path, required=True)
    picture.add_argument("--steps", type=int, default=250)
    picture.add_argument("--features", type=int, default=8, help="of the first level, where the network's own are 32")
    picture.add_argument("--case", type=int, default=0, help=f"which of the {_HELD_OUT} images left out is drawn")
    picture.set_defaults(command=draw)
    cost = commands.add_parser("cost", help="measure networks with and without rendering")
    cost.add_argument("--patch", type=int, nargs="+", default=[256, 256])
    cost.add_argument("--levels", type=int, default=5)
    cost.add_argument("--batch", type=int, default=1)
    cost.add_argument("--one", help=argparse.SUPPRESS)
    cost.set_defaults(command=measure_cost)
    return parser.parse_args()


def configuration(network: str, patch: tuple[int, ...], features: tuple[int, ...], **options: Any) -> Configuration:
    """`network` with isotropic strides, its heads weighed alike."""
    dimensions, steps = len(patch), len(features) - 1
    row = NETWORKS[network]
    encoder, decoder = row.depths(len(features))
    return Configuration(
        name=f"{dimensions}d",
        dimensions=dimensions,
        spacing_mm=(1.0,) * dimensions,
        median_shape=patch,
        patch_size=patch,
        batch_size=1,
        network=network,
        features=features,
        strides=((2,) * dimensions,) * steps,
        kernel_sizes=((3,) * dimensions,) * len(features),
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        supervision_weights=(1 / len(row.supervised(len(features))),) * len(row.supervised(len(features))),
        batch_dice=True,
        dummy_2d=False,
        image_order=3,
        label_order=1,
        score_order=1,
        mirror_axes=tuple(range(dimensions)),
        network_options=options,
    )


def draw(arguments: argparse.Namespace) -> None:
    """Train on nuclei, draw the points of one image left out, print what share of them lies near a boundary."""
    images, labels = read_nuclei(arguments.data)
    features = tuple(arguments.features * 2**level for level in range(5))
    network = build_network(configuration("render_unet", (256, 256), features), 1, 2)
    started = time.process_time()
    train(network, images[_HELD_OUT:], labels[_HELD_OUT:], arguments.steps)
    print(f"trained {arguments.steps} steps in {time.process_time() - started:.0f} s of processor time")
    print(f"Dice on the {_HELD_OUT} images left out: {dice(network, images[:_HELD_OUT], labels[:_HELD_OUT]):.3f}")
    image, label = images[arguments.case], labels[arguments.case]
    print_shares(network, images[:_HELD_OUT], labels[:_HELD_OUT])
    rows = {
        "training": chosen_points(network, image, training=True),
        "inference": chosen_points(network, image, training=False),
    }
    save_small(points_figure(image[0].numpy(), label.numpy(), rows), arguments.out)


def read_nuclei(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The grey images of 256 × 256 pixels, (n, 1, y, x) of mean 0 and deviation 1, and their labels (n, y, x)."""
    from skimage.io import imread

    images, labels = [], []
    for path in sorted((folder / "images").glob("*.png")):
        colours = imread(path)[..., :3]
        if colours.shape[:2] == (256, 256) and (colours == colours[..., :1]).all():
            grey = colours[..., 0].astype(np.float32)
            images.append((grey - grey.mean()) / max(float(grey.std()), 1e-6))
            labels.append(imread(folder / "masks" / path.name) > 0)
    return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(labels)).long()


def train(network: GridNetwork, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    """Adam, 2e-3 falling as a cosine, on mirrored crops; with the point loss and the coarse loss."""
    torch.manual_seed(1)
    loss = SupervisedLoss(build_loss("dice_ce", (1.0, 1.0), batch_dice=True), (0.25,) * 4)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for _ in range(steps):
        x, target = _crops(images, labels)
        optimiser.zero_grad()
        loss(network(x), target).backward()
        optimiser.step()
        schedule.step()


def _crops(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of random crops, mirrored at random, from torch's global generator."""
    x, target = [], []
    for index in torch.randint(len(images), (_BATCH,)).tolist():
        top, left = torch.randint(images.shape[2] - _CROP + 1, (2,)).tolist()
        place = (slice(top, top + _CROP), slice(left, left + _CROP))
        mirrored = [axis for axis in (-2, -1) if torch.rand(()) < 0.5]
        x.append(images[index, 0][place].flip(mirrored)[None])
        target.append(labels[index][place].flip(mirrored))
    return torch.stack(x), torch.stack(target)


@torch.no_grad()
def dice(network: GridNetwork, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The mean Dice of class 1 over the images."""
    network.eval()
    scores = []
    for image, label in zip(images, labels, strict=True):
        found = network.main_output(image[None])[0].argmax(0) == 1
        scores.append(2 * int((found & (label == 1)).sum()) / max(1, int(found.sum() + label.sum())))
    return float(np.mean(scores))


@torch.no_grad()
def chosen_points(network: GridNetwork, image: torch.Tensor, training: bool) -> list[ChosenPoints]:
    """The points of the last way up, from the coarsest level, chosen as in training or as in inference."""
    network.eval()
    network.renderers.train(training)
    outputs = network(image[None])
    by_node = dict(zip(network.renderers, zip(outputs.points, outputs.coarse, strict=True), strict=True))
    chosen = []
    for level in reversed(range(network.grid.levels - 1)):
        points, coarse = by_node[f"{level}_{network.grid.levels - 1 - level}"]
        shape = (int(coarse.shape[2]), int(coarse.shape[3]))
        coordinates = points.coordinates[0].numpy()
        title = f"{shape[0]}²: {len(coordinates)} points"
        chosen.append(ChosenPoints(title, coordinates, shape, whole_cells=not training))
    return chosen


def print_shares(network: GridNetwork, images: torch.Tensor, labels: torch.Tensor) -> None:
    """A line a level: the share of its points near a boundary, in training and in inference, beside the area's."""
    near = [near_boundary(label.numpy(), _BOUNDARY_PX) for label in labels]
    print(f"within {_BOUNDARY_PX:g} px of a boundary: {np.mean([one.mean() for one in near]):.1%} of the area")
    for training in (True, False):
        cases = [chosen_points(network, image, training) for image in images]
        for level in zip(*cases, strict=True):
            share = np.mean([share_near_boundary(one, mask) for one, mask in zip(level, near, strict=True)])
            print(f"{'training' if training else 'inference'}, {level[0].title}: {share:.1%} of the points")


def save_small(figure: Any, path: Path) -> None:
    """The figure as a PNG of 64 colours."""
    from PIL import Image

    save_figure(figure, path)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def measure_cost(arguments: argparse.Namespace) -> None:
    """Print a table of all networks, or, with --one, a line of JSON of that one."""
    if arguments.one:
        print(json.dumps(cost_of(arguments)))
        return
    print(
        "| network | parameters | multiply-adds | step | inference | peak memory of a step |\n|---|---|---|---|---|---|"
    )
    for name in NETWORKS_MEASURED:
        done = subprocess.run([sys.executable, *sys.argv, "--one", name], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        times = f"{found['step_s']:.2f} s | {found['inference_s']:.2f} s | {found['peak_bytes'] / 2**20:.0f} MiB"
        print(f"| {name} | {found['parameters']:,} | {found['multiply_adds'] / 1e9:.2f}·10⁹ | {times} |", flush=True)


def cost_of(arguments: argparse.Namespace) -> dict[str, float]:
    """Parameters, multiply-adds of one forward pass of a sample, processor seconds, and bytes of a training step."""
    name, options = NETWORKS_MEASURED[arguments.one]
    patch = tuple(arguments.patch)
    features = NETWORKS[name].features(arguments.levels, len(patch))
    plan = configuration(name, patch, features, **options)
    network = build_network(plan, in_channels=1, num_classes=2)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(arguments.batch, 1, *patch, generator=generator)
    target = torch.randint(2, (arguments.batch, *patch), generator=generator)
    loss = SupervisedLoss(build_loss("dice_ce", (1.0, 1.0), batch_dice=True), plan.supervision_weights)

    def step() -> None:
        network.zero_grad()
        loss(network(x), target).backward()

    def infer() -> None:
        with torch.inference_mode():
            network.main_output(x)

    before = memory_bytes("VmRSS")
    step()
    peak = memory_bytes("VmHWM") - before
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": multiply_adds(plan),
        "step_s": seconds(step),
        "inference_s": seconds(infer, prepare=network.eval),
        "peak_bytes": peak,
    }


def multiply_adds(plan: Configuration) -> int:
    """Multiply-adds of convolutions and matrix products in one forward pass of a sample in evaluation."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        GridNetwork(plan, 1, 2).eval().main_output(torch.zeros(1, 1, *plan.patch_size))
    return int(counter.get_total_flops()) // 2


def seconds(run: Callable[[], None], prepare: Callable[[], object] = lambda: None) -> float:
    """Processor seconds of `run`, the best of three after one in vain."""
    prepare()
    run()
    best = math.inf
    for _ in range(_REPEATS):
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return best


def memory_bytes(field: str) -> int:
    """What this process holds (VmRSS) or has held at most (VmHWM), Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
