"""Segments what Grand Challenge mounts: an image a channel below /input/images, a label map below /output/images.

This file is the entry point of the container that `msseg_submit --container` writes, and is copied into it as
process.py. Environment: MSSEG_INPUT and MSSEG_OUTPUT (/input and /output), MSSEG_MODEL (model/ beside this file),
MSSEG_CHANNELS (the folders below /input/images in the order of the model's channels, else all of them by name),
MSSEG_SLUG (the folder below /output/images).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from msseg.data.cases import case_name, list_images
from msseg.data.image import read_image, write_label
from msseg.errors import DatasetError, MssegError
from msseg.inference.predictor import Predictor
from msseg.pipeline.prediction import load_predictor

ENDING = ".mha"


def main() -> int:
    """0 where every image has its label map; else 1, with the reason on the standard error."""
    read, here = os.environ.get, Path(__file__).parent
    images, model = Path(read("MSSEG_INPUT", "/input")) / "images", Path(read("MSSEG_MODEL", here / "model"))
    target = Path(read("MSSEG_OUTPUT", "/output")) / "images" / read("MSSEG_SLUG", "segmentation")
    try:
        cases = list_cases(images, read("MSSEG_CHANNELS", "").split())
        predictor = load_predictor(model)
        for name, paths in cases:
            print(segment(predictor, paths, target / f"{name}{ENDING}"), flush=True)
    except MssegError as error:
        print(f"process.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def list_cases(images: Path, channels: list[str]) -> list[tuple[str, list[Path]]]:
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


def segment(predictor: Predictor, paths: list[Path], output: Path) -> Path:
    """Write the label map of one case on its own grid; where it is."""
    image, geometry = read_image(paths, len(predictor.model.plan.channels))
    write_label(output, predictor.predict_array(image, geometry.known_spacing_mm), geometry)
    return output


def _folders(images: Path) -> list[Path]:
    return sorted(path for path in images.iterdir() if path.is_dir()) if images.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
