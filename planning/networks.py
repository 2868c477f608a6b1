"""The zoo's table: one row a network, read by the planner (memory) and by the network builder (modules)."""

from __future__ import annotations

from dataclasses import dataclass

from planning.errors import PlanError
from planning.grids import GRIDS, Grid


@dataclass(frozen=True)
class NetworkRow:
    """A network as data; dictionaries are by number of spatial dimensions.

    `block` is the kind of convolution block, `down` and `up` how levels are joined; every output of the grid has a
    head. A decoder node on level i has the kernel of level i + `decoder_kernel_level`. `counts_all_heads` says whether
    the memory estimate counts the score maps of all heads or of the full-resolution one alone.
    """

    name: str
    title: str
    source: str
    base_features: int
    feature_cap: dict[int, int]
    supervision: str
    batch_dice: str
    grid: str = "plain"
    block: str = "plain"
    down: str = "strided"
    up: str = "transposed"
    norm: str = "instance"
    activation: str = "leaky_relu"
    convolutions_per_level: int = 2
    convolution_bias: bool = True
    up_bias: bool = True
    head_bias: bool = True
    head_kernel: int = 1
    decoder_kernel_level: int = 0
    counts_all_heads: bool = True

    def features(self, levels: int, dimensions: int) -> tuple[int, ...]:
        """Channels per level: doubled at each, up to the cap."""
        cap = self.feature_cap[dimensions]
        return tuple(min(self.base_features * 2**level, cap) for level in range(levels))

    def build_grid(self, levels: int) -> Grid:
        """The nodes and edges of this network at `levels` resolutions."""
        return GRIDS[self.grid](levels)


MSS_UNET = NetworkRow(
    name="mss_unet",
    title="MSS U-Net",
    source="Zhao et al., MSS U-Net (2020), and its public code; 480 in 2D is nnU-Net version 1's cap",
    base_features=30,
    feature_cap={2: 480, 3: 320},
    supervision="paired",
    batch_dice="always",
    up_bias=False,
    head_bias=False,
    decoder_kernel_level=1,
)
PLAIN_UNET = NetworkRow(
    name="plain_unet",
    title="nnU-Net's plain U-Net",
    source="nnU-Net 2.8.1, default_experiment_planner.py",
    base_features=32,
    feature_cap={2: 512, 3: 320},
    supervision="halving",
    batch_dice="with low resolution",
    counts_all_heads=False,
)
NETWORKS: dict[str, NetworkRow] = {row.name: row for row in (MSS_UNET, PLAIN_UNET)}

# The MSS U-Net is a 3D network; in 2D the plain U-Net is the one whose memory reference was measured.
DEFAULT_NETWORKS: dict[int, str] = {2: PLAIN_UNET.name, 3: MSS_UNET.name}


def network_row(name: str) -> NetworkRow:
    """The row of the network called `name`; PlanError lists the known names."""
    if name not in NETWORKS:
        raise PlanError(f"network: found {name!r}, expected one of {', '.join(NETWORKS)}.")
    return NETWORKS[name]
