"""The zoo's table: one row a network, read by the planner (memory) and by the network builder (modules)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planning.errors import PlanError
from planning.network_row import NetworkRow, with_options
from planning.rules import GIGABYTE

_SCHOOL_LEVELS = 5
_SHARP = "Qian et al., UNet# (2022)"
_RENDER = "Li et al., Render U-Net (2020)"
_R2 = "Alom et al. (2018), as in the public code of LeeJunHyun that the papers compare with"

UNET = NetworkRow(
    name="unet",
    title="U-Net",
    year=2015,
    source=f"Ronneberger et al. (2015), with batch norm and linear upsampling as in {_SHARP}",
    base_features=32,
    feature_cap={2: 512, 3: 512},
    most_levels=_SCHOOL_LEVELS,
)
WUNET = replace(
    UNET, name="wunet", title="wide U-Net", year=2018, source="Zhou et al. (2018)", base_features=35,
    feature_cap={2: 560, 3: 560},
)  # fmt: skip
UNET2P = replace(
    UNET, name="unet2p", title="UNet++", year=2018, source="Zhou et al. (2018)", grid="nested",
    heads="full_resolution",
)  # fmt: skip
UNET3P = replace(
    UNET, name="unet3p", title="UNet 3+, raw concatenation", year=2020, source=f"{_SHARP}, after Huang et al. (2020)",
    grid="full_scale", heads="full_scale", head_kernel=3, low_head_kernel=3,
)  # fmt: skip
UNET3P_UNIFIED = replace(
    UNET3P, name="unet3p_unified", title="UNet 3+", source="Huang et al. (2020)", base_features=64,
    feature_cap={2: 1024, 3: 1024}, unified=True, decoder_depths=(1,), guidance="bottleneck",
)  # fmt: skip
UNET_SHARP = replace(
    UNET, name="unet_sharp", title="UNet#", year=2022, source=_SHARP, grid="sharp", heads="sharp", low_head_kernel=3,
    level_targets="max_pool",
)  # fmt: skip
VNET = replace(
    UNET, name="vnet", title="V-Net", year=2016, source=f"Milletari et al. (2016), as in {_SHARP}", base_features=16,
    feature_cap={2: 256, 3: 256}, encoder_block="vnet", encoder_depths=(1, 1, 2, 3, 2), encoder_kernel_edge=5,
    encoder_activation="prelu", down="strided", dropout=0.5,
)  # fmt: skip
WVNET = replace(
    VNET, name="wvnet", title="wide V-Net", year=2022, source=_SHARP, base_features=18, feature_cap={2: 288, 3: 288}
)
VNET2P = replace(VNET, name="vnet2p", title="V-Net2+", year=2022, source=_SHARP, grid="nested", heads="full_resolution")
VNET3P = replace(
    VNET, name="vnet3p", title="V-Net3+", year=2022, source=_SHARP, grid="full_scale", heads="full_scale",
    low_head_kernel=3,
)  # fmt: skip
VNET_SHARP = replace(
    VNET, name="vnet_sharp", title="V-Net#", year=2022, source=_SHARP, grid="sharp", heads="sharp", low_head_kernel=3,
    level_targets="max_pool",
)  # fmt: skip
ATTENTION_UNET = replace(
    UNET, name="attention_unet", title="Attention U-Net", year=2018, source=f"Oktay et al. (2018); {_R2}",
    base_features=64, feature_cap={2: 1024, 3: 1024}, up="nearest_convolution", gate="attention",
)  # fmt: skip
R2UNET = replace(
    ATTENTION_UNET, name="r2unet", title="R2U-Net", source=_R2, gate="none", encoder_block="recurrent",
    decoder_block="recurrent",
)  # fmt: skip
ATTENTION_R2UNET = replace(R2UNET, name="attention_r2unet", title="Attention R2U-Net", gate="attention")
ANU_NET = replace(
    UNET2P, name="anu_net", title="ANU-Net", year=2020, source="Li et al., ANU-Net (2020)", up="transposed_norm",
    up_shared=True, gate="attention", gate_per="node", gate_width="half_at_least_32",
)  # fmt: skip
RENDER_UNET = replace(
    UNET2P, name="render_unet", title="Render U-Net", year=2020, source=_RENDER, up="transposed", gate="attention",
    points="encoder",
)  # fmt: skip
POINT_UNET2P = replace(RENDER_UNET, name="point_unet2p", title="Point UNet++", gate="none")
UNET_SCHOOL = replace(
    UNET, name="unet_school", title="dropout U-Net of the U-Net school", year=2021,
    source="the school's retrained U-Net, after the public code of zhixuhao", base_features=64,
    feature_cap={2: 1024, 3: 1024}, norm="none", up="nearest_convolution_pair", dropout=0.5, head="school",
)  # fmt: skip
PLAIN_UNET = NetworkRow(
    name="plain_unet",
    title="nnU-Net's plain U-Net",
    year=2021,
    source="nnU-Net 2.8.1, default_experiment_planner.py",
    base_features=32,
    feature_cap={2: 512, 3: 320},
    heads="decoder",
    supervision="halving",
    batch_dice="with low resolution",
    down="strided",
    up="transposed",
    norm="instance",
    activation="leaky_relu",
    encoder_activation="leaky_relu",
    counts_all_heads=False,
    counts_convolutions_alone=True,
)
MSS_UNET = replace(
    PLAIN_UNET, name="mss_unet", title="MSS U-Net", year=2020,
    source="Zhao et al., MSS U-Net (2020), and its public code; 480 in 2D is nnU-Net version 1's cap",
    base_features=30, feature_cap={2: 480, 3: 320}, supervision="paired", batch_dice="always", up_bias=False,
    head_bias=False, decoder_kernel_level=1, counts_all_heads=True,
)  # fmt: skip
UNET3D = replace(
    MSS_UNET, name="unet3d", title="classic 3D U-Net", year=2016, heads="last",
    source="Çiçek et al. (2016), as MSS U-Net's paper compares with it: the same network without deep supervision",
)  # fmt: skip
_RESIDUAL = replace(
    PLAIN_UNET, source="nnU-Net 2.8.1, residual_encoder_unet_planners.py", encoder_block="residual",
    encoder_depths=(1, 3, 4, 6), decoder_depths=(1,), fits_reference_batch=True, batch_share=1.0,
)  # fmt: skip
RESENC_M = replace(
    _RESIDUAL, name="resenc_m", title="nnU-Net's residual encoder U-Net M",
    reference_voxels={2: 135_000_000, 3: 680_000_000}, reference_memory_bytes=8 * GIGABYTE,
)  # fmt: skip
RESENC_L = replace(
    _RESIDUAL, name="resenc_l", title="nnU-Net's residual encoder U-Net L",
    reference_voxels={2: 380_000_000, 3: 2_100_000_000}, reference_memory_bytes=24 * GIGABYTE,
)  # fmt: skip
RESENC_XL = replace(
    _RESIDUAL, name="resenc_xl", title="nnU-Net's residual encoder U-Net XL",
    reference_voxels={2: 560_000_000, 3: 3_600_000_000}, reference_memory_bytes=40 * GIGABYTE,
)  # fmt: skip

NETWORKS: dict[str, NetworkRow] = {
    row.name: row
    for row in (
        UNET, WUNET, UNET2P, UNET3P, UNET3P_UNIFIED, UNET_SHARP, VNET, WVNET, VNET2P, VNET3P, VNET_SHARP,
        ATTENTION_UNET, R2UNET, ATTENTION_R2UNET, ANU_NET, RENDER_UNET, POINT_UNET2P, MSS_UNET, UNET3D, UNET_SCHOOL,
        PLAIN_UNET, RESENC_M, RESENC_L, RESENC_XL,
    )
}  # fmt: skip


def network_row(name: str, options: Mapping[str, Any] | None = None) -> NetworkRow:
    """The row of the network called `name`, single values replaced by `options`; PlanError lists the known names."""
    if name not in NETWORKS:
        raise PlanError(f"network: found {name!r}, expected one of {', '.join(NETWORKS)}.")
    return with_options(NETWORKS[name], options or {})
