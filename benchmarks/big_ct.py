"""Makes a data set of large CT volumes of many classes, in nnU-Net's raw layout, for the races.

    python benchmarks/big_ct.py OUT                                      a made torso of 61 structures
    python benchmarks/big_ct.py OUT --image ct.nii.gz --label seg.nii.gz    enlarged from a given coarse CT

A coarse torso is brought to grids of clinical in-plane spacing and slice distance, each case to another, with fresh
noise: preprocessing has to resample, and prediction has to export many classes at full size.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from made_volumes import made_image, made_labels
from scipy.ndimage import zoom

CASES = 4
NUM_CLASSES = 62  # 61 structures and the background
SPACING_MM = 3.0
SHAPE_ZYX = (112, 101, 122)  # at 3 mm: the trunk of an adult
# In-plane spacing and slice distance in mm; of a torso of 366 × 303 × 336 mm they make 29 to 41 million voxels.
GRIDS_MM = ((0.72, 2.0), (0.65, 2.5), (0.78, 1.5), (0.7, 3.0))
_NOISE_HU = 15.0


@dataclass(frozen=True)
class Torso:
    """A coarse CT: image in HU (x, y, z), labels 0 … k without gaps, spacing in mm by axis."""

    image: np.ndarray
    label: np.ndarray
    spacing_mm: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return int(self.label.max()) + 1


def made_torso(num_classes: int = NUM_CLASSES) -> Torso:
    """A torso from random numbers, at 3 mm."""
    label = made_labels(SHAPE_ZYX, num_classes).transpose(2, 1, 0)
    return Torso(made_image(label).astype(np.float32), label, (SPACING_MM,) * 3)


def read_torso(image: Path, label: Path) -> Torso:
    """The torso in two NIfTI files; label values are renumbered from 0 on."""
    stored, stored_label = nibabel.Nifti1Image.from_filename(image), nibabel.Nifti1Image.from_filename(label)
    values = np.rint(np.asarray(stored_label.dataobj)).astype(np.int64)
    renumbered = np.searchsorted(np.unique(values), values).astype(np.uint8)
    spacing_mm = tuple(float(mm) for mm in stored.header.get_zooms()[:3])
    return Torso(np.asarray(stored.dataobj, dtype=np.float32), renumbered, spacing_mm)


def write_big_ct(torso: Torso, folder: Path, cases: int = CASES, coarser: float = 1.0) -> Path:
    """The folder, holding `cases` enlarged volumes in nnU-Net's raw layout, `dataset.json` last.

    `coarser` multiplies the spacings, for a quick run.
    """
    for room in ("imagesTr", "labelsTr"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    for index in range(cases):
        in_plane, slices = GRIDS_MM[index % len(GRIDS_MM)]
        spacing_mm = (coarser * in_plane, coarser * in_plane, coarser * slices)
        _write_case(torso, folder, f"ct_{index:03d}", spacing_mm, np.random.default_rng(index))
    labels = {"background": 0, **{f"structure_{value}": value for value in range(1, torso.num_classes)}}
    described = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def _write_case(torso: Torso, folder: Path, name: str, spacing_mm: Sequence[float], rng: np.random.Generator) -> None:
    factors = [old / new for old, new in zip(torso.spacing_mm, spacing_mm, strict=True)]
    image = zoom(torso.image, factors, order=1)
    image += _NOISE_HU * rng.standard_normal(image.shape, dtype=np.float32)
    affine = np.diag([*spacing_mm, 1.0])
    nibabel.save(
        nibabel.Nifti1Image(np.rint(image).astype(np.int16), affine), folder / "imagesTr" / f"{name}_0000.nii.gz"
    )
    label = zoom(torso.label, factors, order=0)
    nibabel.save(nibabel.Nifti1Image(label, affine), folder / "labelsTr" / f"{name}.nii.gz")
    print(f"{name}: {image.shape} voxels, {int(label.max())} structures", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the data set, such as Dataset061_BigCT")
    parser.add_argument("--image", type=Path, help="a coarse CT to enlarge (default: a made one)")
    parser.add_argument("--label", type=Path, help="its label map")
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--coarser", type=float, default=1.0, help="factor on the spacings, for a quick run")
    arguments = parser.parse_args()
    torso = read_torso(arguments.image, arguments.label) if arguments.image else made_torso()
    write_big_ct(torso, arguments.out, arguments.cases, arguments.coarser)


if __name__ == "__main__":
    main()
