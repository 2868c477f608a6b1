"""nnU-Net v2's plans.json, written by hand for networks and volumes of ours. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIGURATION, PLANS = "3d_fullres", "nnUNetPlans"
_RESAMPLED = {"data": (False, 3), "seg": (True, 1), "probabilities": (False, 1)}  # is it labels, spline order


@dataclass(frozen=True)
class PlainNetwork:
    """A plain 3D U-Net: one entry a level, `decoder` one fewer."""

    features: Sequence[int]
    kernels: Sequence[Sequence[int]]
    strides: Sequence[Sequence[int]]
    encoder: Sequence[int]
    decoder: Sequence[int]


def plans_of(
    dataset: str,
    network: PlainNetwork,
    patch_size: Sequence[int],
    batch_size: int,
    spacing_mm: Sequence[float],
    median_shape: Sequence[int],
    intensities: Mapping[str, float] | None = None,
    reader: str = "NibabelIO",
) -> dict[str, Any]:
    """Plans of one configuration for one channel: a CT where `intensities` are given, else scaled image by image."""
    configuration = {
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": list(median_shape),
        "spacing": list(spacing_mm),
        "normalization_schemes": ["ZScoreNormalization" if intensities is None else "CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": _architecture(network),
        "batch_dice": False,
        **_resampling(),
    }
    return {
        "dataset_name": dataset,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": list(spacing_mm),
        "original_median_shape_after_transp": list(median_shape),
        "image_reader_writer": reader,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {} if intensities is None else {"0": dict(intensities)},
        "continue_training": False,
    }


def _resampling() -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, (is_seg, order) in _RESAMPLED.items():
        entries[f"resampling_fn_{name}"] = "resample_data_or_seg_to_shape"
        entries[f"resampling_fn_{name}_kwargs"] = {
            "is_seg": is_seg,
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    return entries


def _architecture(network: PlainNetwork) -> dict[str, Any]:
    sizes = {
        "n_stages": len(network.features),
        "features_per_stage": list(network.features),
        "kernel_sizes": [list(kernel) for kernel in network.kernels],
        "strides": [list(stride) for stride in network.strides],
        "n_conv_per_stage": list(network.encoder),
        "n_conv_per_stage_decoder": list(network.decoder),
    }
    operators = {
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {**sizes, **operators},
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
