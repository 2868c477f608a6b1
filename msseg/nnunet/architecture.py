"""The network that an nnU-Net configuration describes, as a row of our table with options.

Two ways of describing one: the `architecture` block of nnU-Net 2.4 and later, and the single fields (`UNet_class_name`,
`n_conv_per_stage_encoder`, …) before it, which mean nnU-Net's own choices of norm and activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from planning.errors import PlanError
from planning.json_fields import at_least, mapping, one_of, refuse, sequence, text
from planning.network_row import NetworkRow
from planning.networks import PLAIN_UNET, RESENC_L, RESENC_M, RESENC_XL

_PLAIN, _RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
_BLOCKS = {_PLAIN: "n_conv_per_stage", _RESIDUAL: "n_blocks_per_stage"}
_RESENC_BY_PLANS = {"ResEncUNetL": RESENC_L, "ResEncUNetXL": RESENC_XL}
_NORMS = {"InstanceNorm2d": "instance", "InstanceNorm3d": "instance", "BatchNorm2d": "batch", "BatchNorm3d": "batch"}
_ACTIVATIONS = {"LeakyReLU": "leaky_relu", "ReLU": "relu"}
_DIMENSIONS = {"Conv2d": 2, "Conv3d": 3}
# Trainers of nnU-Net 2.8.1 that put another norm into the plan's network.
_NORM_OF_TRAINER = {"nnUNetTrainerBN": "batch"}
_KNOWN = {
    "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage",
    "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin",
    "nonlin_kwargs", "deep_supervision",
}  # fmt: skip
# Values that mean the same as leaving the argument out.
_INERT: dict[str, tuple[Any, ...]] = {
    "nonlin_first": (False,),
    "block": (None, "dynamic_network_architectures.building_blocks.residual.BasicBlockD"),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
}
_EPSILON, _SLOPE = 1e-5, 0.01


@dataclass(frozen=True)
class Architecture:
    """A network by the row of our table, what it replaces in the row, and its sizes level by level as in a plan."""

    network: str
    options: Mapping[str, Any]
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    encoder_convolutions: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    has_dropout: bool


def read_architecture(
    configuration: Mapping[str, Any], dimensions: int, plans_name: str, trainer: str, place: str
) -> Architecture:
    """The architecture of one configuration of a plans.json; `place` names it in messages.

    PlanError where it is not nnU-Net's plain or residual encoder U-Net, or has a part that ours have not.
    """
    described = configuration.get("architecture")
    if described is None:
        described, place = _of_single_fields(configuration, dimensions, place), f"{place} (plans before nnU-Net 2.4)"
    else:
        place = f"{place}.architecture"
    kind = text(described.get("network_class_name"), f"{place}.network_class_name").rpartition(".")[2]
    if kind not in _BLOCKS:
        raise refuse(f"{place}.network_class_name", kind, f"{_PLAIN} or {_RESIDUAL}: only these can be taken over")
    values = described.get("arch_kwargs")
    if not isinstance(values, Mapping):
        raise refuse(f"{place}.arch_kwargs", values, "an object")
    _refuse_unknown(values, f"{place}.arch_kwargs")
    row = PLAIN_UNET if kind == _PLAIN else _residual_row(plans_name)
    sizes = _Sizes(values, dimensions, f"{place}.arch_kwargs")
    wanted = _options(values, trainer, f"{place}.arch_kwargs")
    return Architecture(
        network=row.name,
        options={name: value for name, value in wanted.items() if getattr(row, name) != value},
        features=sizes.per_level("features_per_stage"),
        strides=sizes.strides(),
        kernel_sizes=sizes.axes("kernel_sizes"),
        encoder_convolutions=sizes.per_level(_BLOCKS[kind]),
        decoder_convolutions=tuple(reversed(sizes.per_level("n_conv_per_stage_decoder", sizes.levels - 1))),
        has_dropout=values.get("dropout_op") is not None,
    )


def _residual_row(plans_name: str) -> NetworkRow:
    """The rows of M, L and XL are one network; which it is decides only how it is called and planned again."""
    return next((row for name, row in _RESENC_BY_PLANS.items() if name in plans_name), RESENC_M)


def _of_single_fields(configuration: Mapping[str, Any], dimensions: int, place: str) -> dict[str, Any]:
    """The `architecture` block of a configuration that lacks one."""
    kind = one_of(*_BLOCKS)(configuration.get("UNet_class_name"), f"{place}.UNet_class_name")
    encoder = sequence(at_least(1))(configuration.get("n_conv_per_stage_encoder"), f"{place}.n_conv_per_stage_encoder")
    base = at_least(1)(configuration.get("UNet_base_num_features"), f"{place}.UNet_base_num_features")
    cap = at_least(1)(configuration.get("unet_max_num_features"), f"{place}.unet_max_num_features")
    return {
        "network_class_name": kind,
        "arch_kwargs": {
            "n_stages": len(encoder),
            "features_per_stage": [min(base * 2**level, cap) for level in range(len(encoder))],
            "conv_op": f"Conv{dimensions}d",
            "kernel_sizes": configuration.get("conv_kernel_sizes"),
            "strides": configuration.get("pool_op_kernel_sizes"),
            _BLOCKS[kind]: list(encoder),
            "n_conv_per_stage_decoder": configuration.get("n_conv_per_stage_decoder"),
            "conv_bias": True,
            "norm_op": f"InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": _EPSILON, "affine": True},
            "nonlin": "LeakyReLU",
        },
    }


def _refuse_unknown(values: Mapping[str, Any], place: str) -> None:
    for name, value in values.items():
        if name not in _KNOWN and value not in _INERT.get(name, ()):
            raise PlanError(f"{place}.{name}: found {value!r}, which our networks have no part for.")


@dataclass(frozen=True)
class _Sizes:
    """Reads what nnU-Net writes for each level, or once for all of them."""

    values: Mapping[str, Any]
    dimensions: int
    place: str

    @property
    def levels(self) -> int:
        return int(at_least(2)(self.values.get("n_stages"), f"{self.place}.n_stages"))

    def per_level(self, name: str, count: int | None = None) -> tuple[int, ...]:
        """`count` whole numbers (default: one a level)."""
        return self._each(name, at_least(1), count or self.levels)

    def axes(self, name: str) -> tuple[tuple[int, ...], ...]:
        """One number an axis for each level."""

        def read(value: Any, place: str) -> tuple[int, ...]:
            if isinstance(value, int):
                return (at_least(1)(value, place),) * self.dimensions
            found = sequence(at_least(1))(value, place)
            if len(found) != self.dimensions:
                raise refuse(place, value, f"{self.dimensions} whole numbers, one an axis")
            return found

        return self._each(name, read, self.levels)

    def strides(self) -> tuple[tuple[int, ...], ...]:
        """The steps from each level to the next: nnU-Net's list begins with the one to the first level, which is 1."""
        first, *others = self.axes("strides")
        if max(first) > 1:
            raise refuse(f"{self.place}.strides[0]", list(first), "1 on every axis")
        return tuple(others)

    def _each(self, name: str, read: Callable[[Any, str], Any], count: int) -> tuple[Any, ...]:
        value, place = self.values.get(name), f"{self.place}.{name}"
        if isinstance(value, int) and not isinstance(value, bool):
            return (read(value, place),) * count
        found = sequence(read)(value, place)
        if len(found) != count:
            raise refuse(place, value, f"{count} entries")
        return found


def _options(values: Mapping[str, Any], trainer: str, place: str) -> dict[str, Any]:
    """Norm, activation and biases in the words of our rows."""
    norm = _NORM_OF_TRAINER.get(trainer) or _norm(values, place)
    activation = _named(values.get("nonlin"), _ACTIVATIONS, f"{place}.nonlin")
    slope = (values.get("nonlin_kwargs") or {}).get("negative_slope", _SLOPE)
    if activation == "leaky_relu" and slope != _SLOPE:
        raise refuse(f"{place}.nonlin_kwargs.negative_slope", slope, f"{_SLOPE}")
    _named(values.get("conv_op"), _DIMENSIONS, f"{place}.conv_op")
    bias = bool(values.get("conv_bias", False))
    return {
        "norm": norm,
        "activation": activation,
        "encoder_activation": activation,
        "convolution_bias": bias,
        "up_bias": bias,
    }


def _norm(values: Mapping[str, Any], place: str) -> str:
    norm = _named(values.get("norm_op"), _NORMS, f"{place}.norm_op")
    arguments = mapping(lambda value, _: value)(values.get("norm_op_kwargs") or {}, f"{place}.norm_op_kwargs")
    affine, epsilon = arguments.get("affine", norm == "batch"), arguments.get("eps", _EPSILON)
    if affine is not True or epsilon != _EPSILON:
        raise refuse(f"{place}.norm_op_kwargs", dict(arguments), f"eps {_EPSILON} and affine true")
    return norm


def _named(value: Any, known: Mapping[str, Any], place: str) -> Any:
    """What the last word of a dotted name stands for, such as torch.nn.LeakyReLU's."""
    name = value.rpartition(".")[2] if isinstance(value, str) else value
    if name not in known:
        raise refuse(place, value, "one of " + ", ".join(known))
    return known[name]
