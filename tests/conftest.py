"""Fixtures that every room's tests share."""

from __future__ import annotations

import contextlib
import importlib
import io
import locale
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planning.costs.machine import KINDS, Arithmetic, CaseRates, ConvolutionRate, Machine, Process
from planning.plan import ChannelPlan, Configuration, Plan

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def known_locale() -> Iterator[None]:
    """The locale as it was: ITK's writer of DICOM leaves "C", in which Python takes text for ASCII."""
    known = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, known)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real test data: $MSSEG_TEST_DATA, else ../shared/data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MSSEG_TEST_DATA", _BESIDE_THE_REPOSITORY))
    if not folder.is_dir():
        pytest.skip(f"no real test data in {folder}; set MSSEG_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def called() -> Callable[..., str]:
    """Calls a console script's `main` in this process; what it says, standard output before standard error."""

    def call(name: str, *arguments: object, expected: int = 0) -> str:
        main = importlib.import_module(f"msseg.commands.{name}").main
        said, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            code = main([str(argument) for argument in arguments])
        assert code == expected, errors.getvalue()
        return said.getvalue() + errors.getvalue()

    return call


@pytest.fixture(scope="session")
def make_configuration() -> Callable[..., Configuration]:
    """Makes a plain U-Net of two levels on a patch of 8 × 8 × 8; keyword arguments replace its fields.

    Another `patch_size` brings the median shape, spacing, strides, kernels and mirror axes that fit it.
    """

    def make(patch_size: tuple[int, ...] = (8, 8, 8), **changes: Any) -> Configuration:
        dimensions = len(patch_size)
        levels = len(changes.get("features", (4, 8)))
        configuration = Configuration(
            name="3d" if dimensions == 3 else "2d",
            dimensions=dimensions,
            spacing_mm=(1.0,) * dimensions,
            median_shape=patch_size,
            patch_size=patch_size,
            batch_size=2,
            network="plain_unet",
            features=(4, 8),
            strides=((2,) * dimensions,),
            kernel_sizes=((3,) * dimensions,) * 2,
            encoder_convolutions=(2,) * levels,
            decoder_convolutions=(2,) * (levels - 1),
            supervision_weights=(1.0,),
            batch_dice=False,
            dummy_2d=False,
            image_order=3,
            label_order=1,
            score_order=1,
            mirror_axes=tuple(range(dimensions)),
        )
        return replace(configuration, **changes)

    return make


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan]:
    """Makes a plan of one channel and two classes around a configuration; keyword arguments replace its fields."""

    def make(configuration: Configuration, **changes: Any) -> Plan:
        plan = Plan(
            dataset_name="tiny",
            channels=(ChannelPlan("MRI", "zscore", False, lower=0.0, upper=1.0, mean=0.0, std=1.0),),
            labels={"background": 0, "one": 7},
            axis_order=(0, 1, 2),
            class_weights=(0.5, 0.5),
            configurations={configuration.name: configuration},
            default_configuration=configuration.name,
            memory_bytes=1 << 30,
        )
        return replace(plan, **changes)

    return make


_AUGMENTATIONS = ("none", "nnunet", "mss", "budget")


def _made_up_arithmetic(**changes: Any) -> Arithmetic:
    rates = tuple(ConvolutionRate(kind, width, 1e9, 0.25e9) for kind in KINDS for width in (8, 32))
    return replace(Arithmetic("CPU", rates, (), product_per_s=1e9, copy_bytes_per_s=1e12), **changes)


@pytest.fixture(scope="session")
def make_machine() -> Callable[..., Machine]:
    """Makes a machine of two cores with round rates; keyword arguments replace its fields."""

    def make(**changes: Any) -> Machine:
        rates = CaseRates(
            read_bytes_per_s=1e6,
            write_bytes_per_s=1e6,
            hash_bytes_per_s=1e6,
            gunzip_from_bytes_per_s=1e6,
            gunzip_to_bytes_per_s=1e6,
            gzip_label_bytes_per_s=1e6,
            examine_voxels_per_s=1e6,
            components_voxels_per_s=1e6,
            keep_voxels_per_s=1e6,
            normalise_voxels_per_s=1e6,
            resample_voxels_per_s=1e6,
            label_vote_voxels_per_s=1e6,
            locate_voxels_per_s=1e6,
            score_voxels_per_s=1e6,
            overlap_voxels_per_s=1e6,
            box_voxels_per_s=1e6,
            surface_voxels_per_s=1e6,
            case_overhead_s=0.5,
            augmented_values_per_s=dict.fromkeys(_AUGMENTATIONS, 1e6),
            torch_augmented_values_per_s=dict.fromkeys(_AUGMENTATIONS, 2e6),
        )
        names = ("prepare", "plan", "networks", "train", "predict", "evaluate")
        names += ("prepare by workers", "evaluate by workers")
        names += ("examining", "preparing", "evaluating", "batches", "server")
        machine = Machine(
            name="made up",
            cores=2,
            threads=1,
            memory_bytes=8 * 10**9,
            versions={},
            processes=dict.fromkeys(names, Process(start_s=1.0, resident_bytes=1000, private_bytes=600)),
            cases=rates,
            cpu=_made_up_arithmetic(),
        )
        return replace(machine, **changes)

    return make


@pytest.fixture(scope="session")
def write_series() -> Callable[..., list[Path]]:
    """Writes the slices of an array (z, y, x) as DICOM files; `places` count slices, `axes` are those of x and y."""
    return _write_series


def _write_series(
    folder: Path,
    image_zyx: np.ndarray,
    places: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    series: str = "1.2.826.1",
    description: str = "tiny",
    axes: tuple[tuple[float, ...], tuple[float, ...]] = ((1, 0, 0), (0, 1, 0)),
    pixel_mm: tuple[float, float] = (0.7, 0.8),
    distance_mm: float = 2.5,
) -> list[Path]:
    import SimpleITK

    folder.mkdir(parents=True, exist_ok=True)
    places = range(len(image_zyx)) if places is None else places
    names = [str(number) for number in range(len(image_zyx))] if names is None else names
    paths = []
    for values, place, name in zip(image_zyx, places, names, strict=True):
        image = SimpleITK.GetImageFromArray(values[None].astype(np.int16))
        position = np.array([-10, -20, 30]) + place * distance_mm * np.cross(*axes)
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0060": "MR",
            "0008|103e": description,
            "0020|000d": "1.2.826.2",
            "0020|000e": series,
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.6f}" for axis in axes for value in axis),
            "0028|0030": "\\".join(f"{value:.6f}" for value in pixel_mm),
            "0018|0050": "5",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        # ITK writes its own geometry over the tags.
        image.SetOrigin(position.tolist())
        image.SetSpacing([pixel_mm[1], pixel_mm[0], distance_mm])
        image.SetDirection(np.stack([*axes, np.cross(*axes)], axis=1).astype(float).ravel().tolist())
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(folder / f"{name}.dcm"))
        writer.Execute(image)
        paths.append(folder / f"{name}.dcm")
    return paths
