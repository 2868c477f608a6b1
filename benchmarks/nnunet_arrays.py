"""Prepares cases with this project and with nnU-Net on one plan, and prints how far the arrays are apart.

    msseg_plan_and_preprocess DATA --root ROOT
    python benchmarks/nnunet_arrays.py NAME --root ROOT --nnunet /venv/with/nnunet/bin/python [--cases A B]
        [--spacing Z Y X] [--as-predicted]

nnU-Net gets the plan's spacing, axis order, normalisation and intensities, so that only the preparation differs;
`--spacing` (mm, in plan order) has cases resampled whose plan keeps their grid. Differences are in standard deviations
of nnU-Net's array, labels compared as nnU-Net trains on them (its -1 is 0); seconds are of the processor, from file to
arrays, on one thread. Where the plan normalises inside a mask, nnU-Net counts labelled voxels as inside it when it
trains; `--as-predicted` leaves the label out on both sides, as in prediction.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msseg.data.cases import Case
from msseg.data.dataset import read_dataset
from msseg.data.image import read_image, read_label
from msseg.data.labels import LabelMap
from msseg.folders import find_task
from msseg.pipeline.planning import load_plan
from msseg.preprocessing.case import PreparedCase, preprocess_case
from planning.plan import Configuration, Plan

PEER = Path(__file__).with_name("nnunet_arrays_peer.py")
SCHEMES = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "nonorm": "NoNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}


@dataclass(frozen=True)
class Distance:
    """How far two preparations of one case are apart, and their processor seconds."""

    largest: float
    percentile_99_9: float
    equal_labels: float
    labels: int
    ours_s: float
    theirs_s: float

    def text(self) -> str:
        return (
            f"{self.largest:10.2e} {self.percentile_99_9:10.2e} {self.equal_labels:14.8%} of {self.labels:<10} "
            f"{self.ours_s:7.2f} s {self.theirs_s:8.2f} s"
        )


def request(case: Case, plan: Plan, configuration: Configuration, out: Path) -> dict:
    """What nnU-Net's side needs, as JSON."""
    return {
        "images": [str(path) for path in case.image_paths],
        "label": None if case.label_path is None else str(case.label_path),
        "out": str(out),
        "spacing_mm": list(configuration.spacing_mm),
        "transpose": list(plan.axis_order),
        "schemes": [SCHEMES[channel.normalisation] for channel in plan.channels],
        "masks": [channel.inside_nonzero_mask for channel in plan.channels],
        "intensities": {
            str(index): {
                "mean": channel.mean,
                "std": channel.std,
                "percentile_00_5": channel.lower,
                "percentile_99_5": channel.upper,
            }
            for index, channel in enumerate(plan.channels)
        },
    }


def prepare(case: Case, plan: Plan, configuration: Configuration, labels: LabelMap) -> tuple[PreparedCase, float]:
    """Our preparation, and its processor seconds."""
    start = time.process_time()
    image, geometry = read_image(case.image_paths)
    label = None if case.label_path is None else labels.to_index(read_label(case.label_path)[0])
    prepared = preprocess_case(image, label, geometry.spacing_mm, plan, configuration, overwrite=True)
    return prepared, time.process_time() - start


def distance(prepared: PreparedCase, ours_s: float, folder: Path, theirs_s: float) -> Distance:
    """How far the arrays of both are apart."""
    data, seg = np.load(folder / "data.npy", mmap_mode="r"), np.load(folder / "seg.npy")
    if data.shape != prepared.image.shape:
        raise SystemExit(f"nnU-Net's array has shape {data.shape}, ours {prepared.image.shape}; expected one shape.")
    apart = [np.abs(one - other) / other.std() for one, other in zip(prepared.image, data, strict=True)]
    equal = np.maximum(seg[0], 0) == (0 if prepared.label is None else prepared.label)
    return Distance(
        largest=max(float(one.max()) for one in apart),
        percentile_99_9=max(float(np.quantile(one, 0.999)) for one in apart),
        equal_labels=float(equal.mean()),
        labels=equal.size,
        ours_s=ours_s,
        theirs_s=theirs_s,
    )


def compare(case: Case, plan: Plan, configuration: Configuration, labels: LabelMap, nnunet: Path) -> Distance:
    """Both preparations of a case, held against each other."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = json.dumps(request(case, plan, configuration, Path(folder)))
        single = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [nnunet, PEER], input=wanted, env=single, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        prepared, ours_s = prepare(case, plan, configuration, labels)
        return distance(prepared, ours_s, Path(folder), json.loads(done.splitlines()[-1])["seconds"])


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="name or number of a data set that was planned below ROOT")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2")
    parser.add_argument("--cases", nargs="+", help="names (default: the first)")
    parser.add_argument("--spacing", nargs="+", type=float, help="target spacing in mm instead of the plan's")
    parser.add_argument("--as-predicted", action="store_true", help="prepare the images without their labels")
    arguments = parser.parse_args()
    task = find_task(arguments.task, arguments.root)
    plan, dataset = load_plan(task), read_dataset(task.raw)
    configuration = plan.configurations[plan.default_configuration]
    if arguments.spacing:
        configuration = replace(configuration, spacing_mm=tuple(arguments.spacing))
    known = {case.name: case for case in dataset.training}
    print(f"{'case':<20} {'largest':>10} {'99.9 %':>10} {'equal labels':>29} {'ours':>9} {'nnU-Net':>10}", flush=True)
    for name in arguments.cases or list(known)[:1]:
        if name not in known:
            sys.exit(f"{name}: no training case of {task.raw}.")
        case = replace(known[name], label_path=None) if arguments.as_predicted else known[name]
        found = compare(case, plan, configuration, dataset.label_map, arguments.nnunet.absolute())
        print(f"{name:<20} {found.text()}", flush=True)


if __name__ == "__main__":
    main()
