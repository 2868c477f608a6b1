"""A network as data: its grid, its parts by name, its widths. What the names stand for lies in `msseg.networks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from planning import rules
from planning.encoders import ENCODERS, OWN, stage
from planning.errors import PlanError
from planning.grids import GRIDS, HEADS, PRUNABLE, Grid, Node
from planning.weights import SUPERVISION

# The parts a row may name, by field.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "grid": tuple(GRIDS),
    "heads": tuple(HEADS),
    "supervision": tuple(SUPERVISION),
    "encoder": (OWN, *ENCODERS),
    "encoder_block": ("plain", "residual", "recurrent", "vnet"),
    "decoder_block": ("plain", "residual", "recurrent"),
    "down": ("strided", "max_pool"),
    "up": ("transposed", "transposed_norm", "linear", "nearest_convolution", "nearest_convolution_pair"),
    "norm": ("none", "instance", "batch"),
    "activation": ("relu", "leaky_relu", "prelu"),
    "encoder_activation": ("relu", "leaky_relu", "prelu"),
    "padding": ("zeros", "mirrored", "valid"),
    "gate": ("none", "attention"),
    "gate_per": ("node", "skip", "source"),
    "gate_width": ("half", "half_at_least_32"),
    "head": ("linear", "school"),
    "level_targets": ("nearest", "max_pool", "area", "upsampled_logits"),
    "guidance": ("none", "branches", "bottleneck"),
    "points": ("none", "encoder", "upsampled"),
}


_BLOCKS_WITH_DROPOUT = ("plain", "vnet")
# With so many levels, every kind of grid and of heads differs from the others.
_ENOUGH_LEVELS = 4


@dataclass(frozen=True)
class NetworkRow:
    """One network; dictionaries are by number of spatial dimensions, names are of `CHOICES`.

    `encoder_depths` and `decoder_depths` count the convolutions (the blocks, where a block is residual) of each level,
    their last entry standing for all deeper ones. `most_levels` None is as many as the patch allows. A decoder node on
    level i has the kernel of level i + `decoder_kernel_level`; `encoder_kernel_edge` takes the place of 3 in the
    encoder's. Heads have kernel `head_kernel` at full resolution and `low_head_kernel` below. `up_shared`: one upward
    operator a level for all columns. `unified`: each source is convolved to the first level's width, and a decoder node
    is as wide as all of these together. `dropout` acts on the two deepest levels. `level_targets` says how the labels
    reach the coarser heads. `guidance` decides class presence on every branch or at the bottleneck; `points` refines
    the encoder's or the upsampled features at chosen points.

    The planner sizes by what convolutions write (`counts_convolutions_alone`, with all heads or the first) or by all
    that is kept; `reference_voxels` of it take `reference_memory_bytes` (None: the plain U-Net's). A patch must fit at
    the reference batch (`fits_reference_batch`) or at the smallest one. A batch has at most `batch_share` of the data.
    """

    name: str
    title: str
    year: int
    source: str
    base_features: int
    feature_cap: dict[int, int] = field(hash=False)
    grid: str = "plain"
    heads: str = "last"
    supervision: str = "mean"
    batch_dice: str = "always"
    most_levels: int | None = None
    encoder: str = "blocks"
    encoder_block: str = "plain"
    decoder_block: str = "plain"
    encoder_depths: tuple[int, ...] = (2,)
    decoder_depths: tuple[int, ...] = (2,)
    encoder_kernel_edge: int = 3
    decoder_kernel_level: int = 0
    down: str = "max_pool"
    up: str = "linear"
    up_shared: bool = False
    up_bias: bool = True
    unified: bool = False
    convolution_bias: bool = True
    norm: str = "batch"
    activation: str = "relu"
    encoder_activation: str = "relu"
    padding: str = "zeros"
    dropout: float = 0.0
    gate: str = "none"
    gate_per: str = "skip"
    gate_width: str = "half"
    head: str = "linear"
    head_bias: bool = True
    head_kernel: int = 1
    low_head_kernel: int = 1
    level_targets: str = "nearest"
    guidance: str = "none"
    points: str = "none"
    point_count: int | None = None
    counts_all_heads: bool = True
    counts_convolutions_alone: bool = False
    fits_reference_batch: bool = False
    batch_share: float = rules.LARGEST_BATCH_SHARE
    reference_voxels: dict[int, int] | None = field(default=None, hash=False)
    reference_memory_bytes: int = rules.REFERENCE_MEMORY_BYTES

    def features(self, levels: int, dimensions: int) -> tuple[int, ...]:
        """Channels per level: doubled at each, up to the cap."""
        cap = self.feature_cap[dimensions]
        return tuple(min(self.base_features * 2**level, cap) for level in range(levels))

    @property
    def level_limit(self) -> int | None:
        """The most levels that the row and its encoder have; None where the patch alone decides."""
        limits = [self.most_levels, None if self.encoder == OWN else ENCODERS[self.encoder].levels]
        return min((limit for limit in limits if limit is not None), default=None)

    def node_features(self, features: tuple[int, ...], node: Node) -> int:
        """Channels that a node writes, where `features` are the levels' widths."""
        if self.unified and node.column:
            return len(features) * features[0]
        of_encoder = stage(self.encoder, node.level) if not node.column else None
        return features[node.level] if of_encoder is None else ENCODERS[self.encoder].widths[of_encoder]

    def build_grid(self, levels: int) -> Grid:
        """The nodes and edges of this network at `levels` resolutions."""
        return GRIDS[self.grid](levels)

    def supervised(self, levels: int) -> tuple[Node, ...]:
        """The nodes that carry a head, the one that predicts first."""
        return HEADS[self.heads](levels)

    def depths(self, levels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The convolutions (blocks) of each level of the encoder and of the decoder, the bottleneck left out there."""
        return _extended(self.encoder_depths, levels), _extended(self.decoder_depths, levels - 1)


def _extended(depths: tuple[int, ...], levels: int) -> tuple[int, ...]:
    return (*depths[:levels], *depths[-1:] * (levels - len(depths)))


def with_options(row: NetworkRow, options: Mapping[str, Any]) -> NetworkRow:
    """The row with single values replaced; PlanError names the option, what was found and what was expected."""
    for name, value in options.items():
        _check_option(row, name, value)
    row = replace(row, **options)
    _check_heads(row)
    _check_shared(row)
    _check_dropout(row)
    return row


def option_names() -> tuple[str, ...]:
    """The fields that `with_options` may replace: names of parts, flags and numbers."""
    fixed = ("name", "title", "source", "year")
    scalar = ("str", "int", "bool", "float", "int | None")
    fields = NetworkRow.__dataclass_fields__.values()
    return tuple(field.name for field in fields if field.name not in fixed and field.type in scalar)


def _check_option(row: NetworkRow, name: str, value: Any) -> None:
    if name not in option_names():
        raise PlanError(f"network option: found {name!r}, expected one of {', '.join(option_names())}.")
    known = CHOICES.get(name)
    if known is not None and value not in known:
        raise PlanError(f"network option {name}: found {value!r}, expected one of {', '.join(known)}.")
    kind = str(NetworkRow.__dataclass_fields__[name].type)
    fits, wanted = _VALUES.get(name, _KINDS[kind])
    if not fits(value):
        raise PlanError(f"network option {name}: found {value!r}, expected {wanted}.")


def _check_heads(row: NetworkRow) -> None:
    """Raise PlanError where heads would stand on nodes that the grid does not have."""
    nodes = row.build_grid(_ENOUGH_LEVELS).sources
    fitting = [name for name, heads in HEADS.items() if all(node in nodes for node in heads(_ENOUGH_LEVELS))]
    if row.heads not in fitting:
        wanted = ", ".join(fitting)
        raise PlanError(f"network option heads: found {row.heads!r} on the grid {row.grid!r}, expected {wanted}.")


def _check_shared(row: NetworkRow) -> None:
    """Raise PlanError where columns share what their differing widths do not fit."""
    shared = ["up_shared=true"] if row.up_shared else []
    shared += ["gate_per=node"] if row.gate != "none" and row.gate_per == "node" and row.encoder != OWN else []
    if not shared or row.grid not in PRUNABLE or (row.encoder == OWN and not row.unified):
        return
    name, value = ("encoder", repr(row.encoder)) if row.encoder != OWN else ("unified", "true")
    raise PlanError(
        f"network option {name}: found {value} with {' and '.join(shared)}, but then column 0 has widths of its own "
        "and nothing fits all columns. Add up_shared=false and gate_per=skip."
    )


def _check_dropout(row: NetworkRow) -> None:
    """Raise PlanError where the encoder's blocks have no place for dropout."""
    if row.dropout and row.encoder == OWN and row.encoder_block not in _BLOCKS_WITH_DROPOUT:
        wanted = f"0, or encoder_block one of {', '.join(_BLOCKS_WITH_DROPOUT)}"
        raise PlanError(
            f"network option dropout: found {row.dropout} in {row.encoder_block} blocks, expected {wanted}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_odd(value: Any) -> bool:
    return _is_count(value) and value % 2 == 1


_Values = tuple[Callable[[Any], bool], str]
_KINDS: Final[dict[str, _Values]] = {
    "str": (lambda value: isinstance(value, str), "a name"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "float": (lambda value: _is_number(value) and 0 <= value < 1, "a number of at least 0 and below 1"),
    "int": (_is_count, "a whole number of at least 1"),
    "int | None": (lambda value: value is None or _is_count(value), "null or a whole number of at least 1"),
}
# Where a value must be other than its kind says.
_ODD: Final[_Values] = (_is_odd, "an odd whole number, which pads both sides alike")
_VALUES: Final[dict[str, _Values]] = {
    **dict.fromkeys(("head_kernel", "low_head_kernel", "encoder_kernel_edge"), _ODD),
    "decoder_kernel_level": (lambda value: value in (0, 1) and not isinstance(value, (bool, float)), "0 or 1"),
    "batch_share": (lambda value: _is_number(value) and 0 < value <= 1, "a number above 0 and at most 1"),
}
