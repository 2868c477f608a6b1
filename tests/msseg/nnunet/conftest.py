"""Miniature nnU-Net models: networks with its module names, and the folder that its trainer leaves."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_NORM = {
    ("InstanceNorm", 2): nn.InstanceNorm2d,
    ("InstanceNorm", 3): nn.InstanceNorm3d,
    ("BatchNorm", 2): nn.BatchNorm2d,
    ("BatchNorm", 3): nn.BatchNorm3d,
}


class Unit(nn.Module):
    """Convolution, norm, activation, each under two names."""

    def __init__(self, arch: dict[str, Any], c_in: int, c_out: int, kernel: list[int], stride: Any, act: bool = True):
        super().__init__()
        dimensions = arch["dimensions"]
        bias = arch["conv_bias"] and kernel != [1] * dimensions
        padding = [edge // 2 for edge in kernel]
        self.conv = _CONVOLUTION[dimensions](c_in, c_out, kernel, stride, padding, bias=bias)
        self.norm = _NORM[arch["norm"], dimensions](c_out, affine=True)
        parts = [self.conv, self.norm]
        if act:
            self.nonlin = nn.LeakyReLU()
            parts.append(self.nonlin)
        self.all_modules = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.all_modules(x)


class Units(nn.Module):
    def __init__(self, arch: dict[str, Any], count: int, c_in: int, c_out: int, kernel: list[int], stride: Any = 1):
        super().__init__()
        self.convs = nn.Sequential(
            *(Unit(arch, c_out if i else c_in, c_out, kernel, 1 if i else stride) for i in range(count))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x)


class Block(nn.Module):
    def __init__(self, arch: dict[str, Any], c_in: int, c_out: int, kernel: list[int], stride: list[int]):
        super().__init__()
        ones = [1] * arch["dimensions"]
        self.conv1 = Unit(arch, c_in, c_out, kernel, stride)
        self.conv2 = Unit(arch, c_out, c_out, kernel, 1, act=False)
        past = [] if stride == ones else [_POOL[arch["dimensions"]](stride, stride)]
        if c_in != c_out:
            past.append(Unit(arch, c_in, c_out, ones, 1, act=False))
        self.skip = nn.Sequential(*past)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + self.skip(x))


class Blocks(nn.Module):
    def __init__(self, arch: dict[str, Any], count: int, c_in: int, c_out: int, kernel: list[int], stride: list[int]):
        super().__init__()
        ones = [1] * arch["dimensions"]
        self.blocks = nn.Sequential(
            *(Block(arch, c_out if i else c_in, c_out, kernel, ones if i else stride) for i in range(count))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class Encoder(nn.Module):
    def __init__(self, arch: dict[str, Any], c_in: int):
        super().__init__()
        features, counts = arch["features_per_stage"], arch["counts"]
        if arch["residual"]:
            self.stem = Units(arch, 1, c_in, features[0], arch["kernel_sizes"][0])
            c_in = features[0]
        stages = []
        for i, width in enumerate(features):
            shape = counts[i], features[i - 1] if i else c_in, width, arch["kernel_sizes"][i], arch["strides"][i]
            stages.append(Blocks(arch, *shape) if arch["residual"] else nn.Sequential(Units(arch, *shape)))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x) if hasattr(self, "stem") else x
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    def __init__(self, arch: dict[str, Any], encoder: Encoder, num_classes: int):
        super().__init__()
        self.encoder = encoder
        features, dimensions = arch["features_per_stage"], arch["dimensions"]
        stages, ups, heads = [], [], []
        for below in reversed(range(1, len(features))):
            width, stride = features[below - 1], arch["strides"][below]
            ups.append(_TRANSPOSED[dimensions](features[below], width, stride, stride, bias=arch["conv_bias"]))
            count = arch["n_conv_per_stage_decoder"][len(stages)]
            stages.append(Units(arch, count, 2 * width, width, arch["kernel_sizes"][below - 1]))
            heads.append(_CONVOLUTION[dimensions](width, num_classes, 1))
        self.stages, self.transpconvs, self.seg_layers = map(nn.ModuleList, (stages, ups, heads))

    def forward(self, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        x, logits = skips[-1], []
        for i, stage in enumerate(self.stages):
            x = stage(torch.cat([self.transpconvs[i](x), skips[-(i + 2)]], 1))
            logits.append(self.seg_layers[i](x))
        return logits[::-1]


class Network(nn.Module):
    """Logits of every decoder stage, the finest first; norms are no identities."""

    def __init__(self, arch: dict[str, Any], c_in: int, num_classes: int):
        super().__init__()
        self.encoder = Encoder(arch, c_in)
        self.decoder = Decoder(arch, self.encoder, num_classes)
        generator = torch.Generator().manual_seed(0)
        for tensor in dict(self.state_dict()).values():
            if tensor.ndim > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            elif tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=generator)
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.decoder(self.encoder(x))


def _architecture(residual: bool, dimensions: int, **changes: Any) -> dict[str, Any]:
    """A description that the networks above read, with nnU-Net's words for it under `block`."""
    arch: dict[str, Any] = {
        "dimensions": dimensions,
        "residual": residual,
        "norm": "InstanceNorm",
        "conv_bias": True,
        "features_per_stage": [4, 6, 8],
        "kernel_sizes": [[1, 3, 3][-dimensions:], [3] * dimensions, [3] * dimensions],
        "strides": [[1] * dimensions, [1, 2, 2][-dimensions:], [2] * dimensions],
        "counts": [1, 2, 2],
        "n_conv_per_stage_decoder": [2, 1],
        **changes,
    }
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    shared = ("features_per_stage", "kernel_sizes", "strides", "conv_bias", "n_conv_per_stage_decoder")
    arch["block"] = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 3,
            **{name: arch[name] for name in shared},
            "n_blocks_per_stage" if residual else "n_conv_per_stage": arch["counts"],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "norm_op": f"torch.nn.modules.norm.{arch['norm']}{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return arch


def _plans(arch: dict[str, Any], name: str) -> dict[str, Any]:
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    figures = {"mean": 90.0, "std": 40.0, "percentile_00_5": -20.0, "percentile_99_5": 210.0}
    return {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "nnUNetResEncUNetLPlans" if arch["residual"] else "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": figures, "1": figures},
        "configurations": {
            name: {
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 3,
                "patch_size": [8, 16, 16][-arch["dimensions"] :],
                "median_image_size_in_voxels": [9.0, 20.5, 18.0][-arch["dimensions"] :],
                "spacing": [3.0, 1.0, 0.5][-arch["dimensions"] :],
                "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
                "use_mask_for_norm": [True, True],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {**resampling, "order": 3},
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
                "resampling_fn_probabilities_kwargs": resampling,
                "architecture": arch["block"],
                "batch_dice": True,
            }
        },
    }


def _checkpoint(network: nn.Module, name: str) -> dict[str, Any]:
    """What nnU-Net's trainer saves, numpy's numbers and the device among it."""
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5)], "lrs": [0.01], "val": [[np.float64(0.25), np.int64(3)]]},
        "_best_ema": np.float32(0.5),
        "current_epoch": 7,
        "init_args": {"configuration": name, "fold": 0, "device": torch.device("cuda", 0), "shape": torch.Size([1])},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
        "metadata": OrderedDict(a=1),
    }


class MiniatureModel:
    """A model folder and the network in it. `plans`, `dataset` and `checkpoint` may be changed, then `write` again."""

    def __init__(self, folder: Path, residual: bool, dimensions: int, **changes: Any):
        self.folder = folder
        self.arch = _architecture(residual, dimensions, **changes)
        self.name = "2d" if dimensions == 2 else "3d_fullres"
        self.network = Network(self.arch, 2, 3)
        self.plans = _plans(self.arch, self.name)
        self.dataset: dict[str, Any] = {
            "channel_names": {"0": "CT", "1": "MR"},
            "labels": {"tumour": 2, "background": 0, "kidney": [1]},
        }
        self.checkpoint = _checkpoint(self.network, self.name)

    @property
    def configuration(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plans["configurations"][self.name]
        return found

    def write(self, fold: str = "0", kind: str = "final") -> Path:
        """The folder, written."""
        (self.folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        (self.folder / "plans.json").write_text(json.dumps(self.plans))
        (self.folder / "dataset.json").write_text(json.dumps(self.dataset))
        torch.save(self.checkpoint, self.folder / f"fold_{fold}" / f"checkpoint_{kind}.pth")
        return self.folder


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., MiniatureModel]:
    """Makes a miniature model in tmp_path/theirs: plain or residual, 2D or 3D; keywords change its architecture."""

    def make(residual: bool = False, dimensions: int = 3, **changes: Any) -> MiniatureModel:
        return MiniatureModel(tmp_path / "theirs", residual, dimensions, **changes)

    return make
