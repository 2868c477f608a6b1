"""Segments what Grand Challenge mounts: an image a channel below /input/images, a label map below /output/images.

This file is the entry point of the container that `msseg_submit --container` writes, and is copied into it as
process.py. Environment: MSSEG_INPUT and MSSEG_OUTPUT (/input and /output), MSSEG_MODEL (model/ beside this file),
MSSEG_CHANNELS (the folders below /input/images in the order of the model's channels, else all of them by name),
MSSEG_SLUG (the folder below /output/images).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msseg.data.cases import case_name, list_images
from msseg.data.image import image_ending, read_image, read_label, write_label
from msseg.errors import DatasetError, MssegError
from msseg.pipeline.inference_file import INFERENCE_FILE
from msseg.pipeline.inference_prediction import predict_inference
from msseg.pipeline.prediction import load_predictor

ENDING = ".mha"
Cases = list[tuple[str, list[Path]]]


def main() -> int:
    """0 where every image has its label map; else 1, with the reason on the standard error."""
    read, here = os.environ.get, Path(__file__).parent
    images, model = Path(read("MSSEG_INPUT", "/input")) / "images", Path(read("MSSEG_MODEL", here / "model"))
    target = Path(read("MSSEG_OUTPUT", "/output")) / "images" / read("MSSEG_SLUG", "segmentation")
    try:
        cases = list_cases(images, read("MSSEG_CHANNELS", "").split())
        segment_all = with_members if (model / INFERENCE_FILE).is_file() else with_model
        for path in segment_all(model, cases, target):
            print(path, flush=True)
    except MssegError as error:
        print(f"process.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def list_cases(images: Path, channels: list[str]) -> Cases:
    """Name and files of every case, one file a channel in their order; the first channel's name is the case's.

    Several files in the folder of an only channel are cases of their own. DatasetError where a channel has none, or
    where one of several has more than one.
    """
    folders = [images / channel for channel in channels] or _folders(images)
    files = [list_images(folder) for folder in folders]
    if not files or not all(files):
        empty = next((folder for folder, found in zip(folders, files, strict=True) if not found), images)
        raise DatasetError(f"{empty}: no image; expected one a channel. Name the channels' folders in MSSEG_CHANNELS.")
    if len(files) == 1:
        return [(case_name(path), [path]) for path in files[0]]
    if any(len(found) > 1 for found in files):
        raise DatasetError(f"{images}: several images of a channel; expected one case at a time. Run them one by one.")
    return [(case_name(files[0][0]), [found[0] for found in files])]


def with_model(model: Path, cases: Cases, target: Path) -> Iterator[Path]:
    """Where the label map of every case is, written on its own grid."""
    predictor = load_predictor(model)
    for name, paths in cases:
        image, geometry = read_image(paths, len(predictor.model.plan.channels))
        output = target / f"{name}{ENDING}"
        write_label(output, predictor.predict_array(image, geometry.known_spacing_mm), geometry)
        yield output


def with_members(model: Path, cases: Cases, target: Path) -> Iterator[Path]:
    """As `with_model`, from the models that an inference.json names. MssegError for the first case that fails."""
    with tempfile.TemporaryDirectory() as folder:
        images, labels = Path(folder) / "images", Path(folder) / "labels"
        images.mkdir()
        for number, (_, paths) in enumerate(cases):
            for channel, path in enumerate(paths):
                suffix = f"_{channel:04d}" if len(paths) > 1 else ""
                (images / f"case{number}{suffix}{image_ending(path)}").symlink_to(path.resolve())
        report = predict_inference(images, labels, model / INFERENCE_FILE)
        if report.failed:
            raise MssegError(next(iter(report.failed.values())))
        for number, (name, _) in enumerate(cases):
            label, geometry = read_label(next(labels.glob(f"case{number}.*")))
            write_label(target / f"{name}{ENDING}", label, geometry)
            yield target / f"{name}{ENDING}"


def _folders(images: Path) -> list[Path]:
    return sorted(path for path in images.iterdir() if path.is_dir()) if images.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
