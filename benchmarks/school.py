"""The school's networks side by side on one data set: python school.py DATA --root FOLDER [--networks NAME,…]

DATA is a Decathlon folder, or one of 2D images: `images/` and `masks/` (nuclei, with `cases.csv`) or `labels/`
(membranes) as PNG. Every network is trained with the same steps, patches, batch, width of the first level, loss and
optimiser, each with its own supervision; results go to FOLDER/results/, one JSON a network, and are printed as a table.
A network that has its JSON is not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.data.store import stored_names
from msseg.evaluation.evaluate import Evaluation, evaluate_pairs
from msseg.evaluation.pairs import Pair
from msseg.files import write_json
from msseg.folders import Task, find_task
from msseg.inference.folder import output_path, predict_folder
from msseg.inference.predictor import PredictionOptions, load_predictor
from msseg.losses import SupervisedLoss, build_loss
from msseg.networks import build_network
from msseg.pipeline.planning import PlanningOptions, load_plan, plan_and_preprocess
from msseg.training.job import TrainingJob
from msseg.training.loop import train_fold
from msseg.training.recipes import Recipe, configured, recipe_named
from planning.fingerprint import fingerprint_from_json
from planning.networks import NETWORKS
from planning.plan import Configuration, Plan
from planning.planner import Budget, make_plan
from planning.splits import Split

NETWORKS_2D = (
    "unet", "wunet", "unet2p", "unet3p", "unet3p_unified", "unet_sharp", "attention_unet", "r2unet",
    "attention_r2unet", "anu_net", "point_unet2p", "render_unet", "unet_school", "plain_unet", "resenc_m", "mss_unet",
)  # fmt: skip
LEVELS = 5
VALIDATION_SHARE = 5  # every fifth case
EM_VALIDATION = 4  # the last sections of the stack: neighbours look alike, so a random split would leak


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    results = arguments.root / "results"
    task, plan, split = _prepared(arguments)
    for name in arguments.networks.split(","):
        if not (results / f"{name}.json").exists():
            write_json(results / f"{name}.json", _trained_and_measured(arguments, task, plan, split, name))
            print(_row(json.loads((results / f"{name}.json").read_text())), flush=True)
    found = [json.loads(path.read_text()) for path in results.glob("*.json")]
    print(_table(sorted(found, key=lambda one: list(NETWORKS).index(one["network"]))))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS_2D))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, nargs="+", default=[128, 128])
    parser.add_argument("--features", type=int, default=16, help="of the first level, where the network's own are 32")
    parser.add_argument("--mirrors", default="plan", help="as in recipes: plan, lateral, horizontal or none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def _prepared(arguments: argparse.Namespace) -> tuple[Task, Plan, Split]:
    folder = arguments.data
    if not (folder / "dataset.json").exists():
        folder = arguments.root / "raw" / folder.name
        if not (folder / "dataset.json").exists():
            _convert(arguments.data, folder)
    task = find_task(str(folder), arguments.root)
    if not task.plan_path.exists():
        plan_and_preprocess(str(folder), arguments.root, options=PlanningOptions())
    plan = load_plan(task)
    names = stored_names(task.store(plan.default_configuration))
    return task, plan, _split(arguments.data, sorted(names))


def _split(data: Path, names: list[str]) -> Split:
    """The last sections of a stack; else every fifth case, of each kind of image where `cases.csv` names kinds."""
    if (data / "labels").is_dir() and not (data / "cases.csv").exists():
        held_out = set(names[-EM_VALIDATION:])
    else:
        kinds = _kinds(data)
        ordered = sorted(names, key=lambda name: (kinds.get(name, ""), name))
        held_out = set(ordered[::VALIDATION_SHARE])
    return Split(tuple(n for n in names if n not in held_out), tuple(n for n in names if n in held_out))


def _kinds(data: Path) -> dict[str, str]:
    table = data / "cases.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]] if table.exists() else []
    return {row[0]: row[2] for row in rows}


def _convert(data: Path, folder: Path) -> None:
    """The PNG images as single slices of NIfTI in Decathlon's layout: grey as one channel, colour as three."""
    from skimage.io import imread

    masks = data / ("masks" if (data / "masks").is_dir() else "labels")
    grey = data.name.startswith("ISBI")
    listed = []
    for path in sorted((data / "images").glob("*.png")):
        image = imread(path).astype(np.float32)
        channels = image[None] if image.ndim == 2 else np.moveaxis(image[..., :3], -1, 0)  # (c, y, x)
        label = (imread(masks / path.name) > 0).astype(np.uint8)
        geometry = Geometry((1, *label.shape), (1.0, 1.0, 1.0))
        write_image(
            folder / "imagesTr" / f"{path.stem}.nii.gz", (channels[:1] if grey else channels)[:, None], geometry
        )
        write_label(folder / "labelsTr" / f"{path.stem}.nii.gz", label[None], geometry)
        listed.append({"image": f"./imagesTr/{path.stem}.nii.gz", "label": f"./labelsTr/{path.stem}.nii.gz"})
    modality = {"0": "microscopy"} if grey else {"0": "red", "1": "green", "2": "blue"}
    labels = {"0": "background", "1": "cell"}
    write_json(folder / "dataset.json", {"name": data.name, "modality": modality, "labels": labels, "training": listed})


def _trained_and_measured(
    arguments: argparse.Namespace, task: Task, plan: Plan, split: Split, name: str
) -> dict[str, Any]:
    """One network trained, its validation cases predicted without mirrors, and all figures."""
    recipe, configuration = _recipe(arguments, name), _configuration(arguments, task, plan, name)
    plan = replace(plan, configurations={**plan.configurations, configuration.name: configuration})
    folder = arguments.root / "trained" / name
    job = TrainingJob(
        store=task.store(configuration.name),
        plan=plan,
        configuration_name=configuration.name,
        split=split,
        fold="0",
        recipe=recipe,
        folder=folder / "fold_0",
        device=torch.device(arguments.device),
        epochs=arguments.steps // recipe.steps_per_epoch,
    )
    result = train_fold(job)
    configuration = configured(configuration, recipe, plan.axis_order)
    evaluation = _evaluated(task, folder, split, job.device)
    network = build_network(configuration, len(plan.channels), plan.outputs)
    return {
        "network": name,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "features": configuration.features,
        "steps": result.steps,
        "training_s": result.elapsed_s,
        "step_cpu_s": _step_cpu_s(configuration, plan, arguments.device),
        **_scores(evaluation),
    }


def _recipe(arguments: argparse.Namespace, name: str) -> Recipe:
    """The short-budget recipe with everything equal but each network's own supervision."""
    return replace(
        recipe_named("budget"),
        base_features=round(arguments.features * _relative_width(name)),
        batch_size=arguments.batch,
        fitted_steps=None,
        patch_share=1.0,
        mirrors=arguments.mirrors,
        supervision="plan",
        steps_per_epoch=50,
        validation_batches=0,
        whole_volume_every=10**6,
    )


def _relative_width(name: str) -> float:
    """The wide networks are a little wider than their kin, here as there; all others start alike."""
    return {"wunet": 35 / 32, "wvnet": 18 / 16}.get(name, 1.0)


def _configuration(arguments: argparse.Namespace, task: Task, plan: Plan, name: str) -> Configuration:
    """The network's own configuration for the data set, with the patch and depth that all have here."""
    fingerprint = fingerprint_from_json(json.loads(task.fingerprint_path.read_text()), str(task.fingerprint_path))
    planned = make_plan(fingerprint, Budget(plan.memory_bytes, name, options={"most_levels": LEVELS}))
    configuration = planned.configurations[plan.default_configuration]
    return replace(
        configuration,
        spacing_mm=plan.configurations[configuration.name].spacing_mm,
        patch_size=tuple(arguments.patch),
    )


def _evaluated(task: Task, folder: Path, split: Split, device: torch.device) -> Evaluation:
    from msseg.data.dataset import read_dataset

    dataset = read_dataset(task.raw)
    cases = [case for case in dataset.training if case.name in split.validation]
    output = folder / "validation"
    predictor = load_predictor(folder, device, ["0"], PredictionOptions(mirror=False), postprocess=False)
    predict_folder(predictor, cases, output, overwrite=True, quiet=True)
    pairs = [Pair(case.name, output_path(case, output), case.label_path) for case in cases if case.label_path]
    return evaluate_pairs(pairs, dataset.labels)


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    """Means over cases and pooled figures of each label, as the evaluation gives them."""
    return {
        "labels": {
            name: {"mean": dict(summary.mean), "pooled": dict(summary.pooled)}
            for name, summary in evaluation.summary.items()
        }
    }


def _step_cpu_s(configuration: Configuration, plan: Plan, device: str, repeats: int = 3) -> float:
    """Processor seconds of one forward and backward pass on a batch, the least of a few; others' load hardly enters."""
    network = build_network(configuration, len(plan.channels), plan.outputs).to(device).train()
    image = torch.randn(configuration.batch_size, len(plan.channels), *configuration.patch_size, device=device)
    target = torch.zeros(configuration.batch_size, *configuration.patch_size, dtype=torch.int64, device=device)
    loss = SupervisedLoss(build_loss("dice_ce", plan.class_weights, True), configuration.supervision_weights)
    least = math.inf
    for _ in range(repeats):
        start = time.process_time()
        loss(network(image), target).backward()
        least = min(least, time.process_time() - start)
    return least


def _table(results: list[dict[str, Any]]) -> str:
    head = "| network | parameters | s a step | Dice | IoU | accuracy | Hausdorff | pooled Dice | pooled IoU |"
    return "\n".join([head, "|---" * 9 + "|", *(_row(result) for result in results)])


def _row(result: dict[str, Any]) -> str:
    """A row of the table; figures are means over the labels."""
    labels = result["labels"].values()

    def mean(kind: str, metric: str) -> float:
        return float(np.mean([label[kind][metric] for label in labels]))

    figures = [mean("mean", m) for m in ("dice", "jaccard", "accuracy", "hausdorff_mm")]
    figures += [mean("pooled", m) for m in ("dice", "jaccard")]
    shown = " | ".join(f"{value:.2f}" if value > 1 else f"{value:.4f}" for value in figures)
    title = NETWORKS[result["network"]].title
    return f"| {title} | {result['parameters'] / 1e6:.2f} M | {result['step_cpu_s']:.2f} | {shown} |"


if __name__ == "__main__":
    main()
