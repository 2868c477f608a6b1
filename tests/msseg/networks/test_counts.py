"""What `planning` counts without torch is what the built network has: parameters, feature maps, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest
import torch

from msseg.networks.grid_network import GridNetwork
from planning.counting import convolution_values, multiply_adds, parameters
from planning.memory import feature_voxels
from planning.network_row import CHOICES
from planning.networks import NETWORKS, network_row
from planning.plan import Configuration
from planning.weights import uniform_weights

ConfigurationMaker = Callable[..., Configuration]

CHANNELS, CLASSES = 2, 4
CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.Conv3d)
TRANSPOSED = (torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)


@pytest.fixture
def plan(make_configuration: ConfigurationMaker) -> ConfigurationMaker:
    """Makes a configuration of the row's own widths and depths, so small that its bottleneck is two voxels long."""

    def make(
        name: str, dimensions: int, anisotropic: bool = False, levels: int = 3, **options: object
    ) -> Configuration:
        row = network_row(name, options)
        flat, cube = (1, *(2,) * (dimensions - 1)), (2,) * dimensions
        strides = (flat, *(cube,) * (levels - 2)) if anisotropic else (cube,) * (levels - 1)
        kernel = (1, *(3,) * (dimensions - 1)) if anisotropic else (3,) * dimensions
        encoder, decoder = row.depths(levels)
        return make_configuration(
            tuple(2 * math.prod(stride[axis] for stride in strides) for axis in range(dimensions)),
            network=name,
            features=row.features(levels, dimensions),
            strides=strides,
            kernel_sizes=(kernel, *((3,) * dimensions,) * (levels - 1)),
            encoder_convolutions=encoder,
            decoder_convolutions=decoder,
            supervision_weights=uniform_weights(len(row.supervised(levels))),
            network_options=options,
        )

    return make


class Counted:
    """A network on the meta device, and what its convolutions and matrix products do with one patch."""

    def __init__(self, configuration: Configuration):
        with torch.device("meta"):
            self.network = GridNetwork(configuration, CHANNELS, CLASSES).eval()
        self.parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.written = self.multiply_adds = 0
        for module in self.network.modules():
            if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED, torch.nn.Linear)):
                module.register_forward_hook(self._count)
        image = torch.empty(1, CHANNELS, *configuration.patch_size, device="meta")
        with torch.no_grad():
            self.network(image)

    def _count(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        # Each value of a transposed convolution's input meets all its weights; else each value of the output does.
        weight = cast(torch.Tensor, module.weight)
        values = inputs[0].numel() if isinstance(module, TRANSPOSED) else output.numel()
        self.multiply_adds += values * weight[0].numel()
        self.written += 0 if isinstance(module, torch.nn.Linear) else output.numel()


def check(configuration: Configuration) -> None:
    counted = Counted(configuration)
    assert parameters(configuration, CHANNELS, CLASSES) == counted.parameters
    assert convolution_values(configuration, CHANNELS, CLASSES) == counted.written
    assert multiply_adds(configuration, CHANNELS, CLASSES) == counted.multiply_adds


@pytest.mark.parametrize("anisotropic", [False, True], ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_planner_counts_what_the_built_network_has(
    name: str, dimensions: int, anisotropic: bool, plan: ConfigurationMaker
) -> None:
    check(plan(name, dimensions, anisotropic))


OPTIONS = [(field, choice) for field, choices in CHOICES.items() for choice in choices]
# Where a choice needs more than a plain U-Net.
CARRIERS = {"gate_per": {"gate": "attention"}, "gate_width": {"gate": "attention"}, "grid": {"heads": "last"}}
# Without padding the network enlarges its patch; the planner counts the patch itself.
SKIPPED = {("padding", "valid")}


@pytest.mark.parametrize(("field", "choice"), [option for option in OPTIONS if option not in SKIPPED])
def test_every_choice_of_a_part_is_counted(field: str, choice: str, plan: ConfigurationMaker) -> None:
    check(plan("unet_sharp", 2, anisotropic=True, **{**CARRIERS.get(field, {}), field: choice}))


def test_padding_changes_no_parameter(plan: ConfigurationMaker) -> None:
    counts = {parameters(plan("unet_school", 2, padding=choice), CHANNELS, CLASSES) for choice in CHOICES["padding"]}
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("anu_net", {"up_shared": False, "gate_per": "skip"}),
        ("anu_net", {"gate_per": "source"}),
        ("render_unet", {"points": "upsampled"}),
        ("render_unet", {"up": "linear", "point_count": 5}),
        ("unet3p_unified", {"guidance": "branches", "unified": True}),
        ("unet_sharp", {"guidance": "branches"}),
        ("vnet", {"up_shared": True, "convolution_bias": False, "up_bias": False, "head_bias": False}),
        ("unet_school", {"head_kernel": 3, "norm": "instance"}),
        ("unet_sharp", {"encoder": "resnet101", "dropout": 0.5, "norm": "instance", "activation": "prelu"}),
        ("attention_unet", {"encoder": "vgg16", "down": "strided"}),
        ("resenc_m", {"decoder_block": "residual", "encoder_activation": "prelu"}),
    ],
)
def test_options_together_are_counted(name: str, options: dict[str, object], plan: ConfigurationMaker) -> None:
    check(plan(name, 2, **options))


@pytest.mark.parametrize("level", [1, 2])
def test_a_pruned_network_is_counted(level: int, plan: ConfigurationMaker) -> None:
    whole = plan("anu_net", 2, levels=4)
    check(
        replace(
            whole,
            features=whole.features[: level + 1],
            strides=whole.strides[:level],
            kernel_sizes=whole.kernel_sizes[: level + 1],
            encoder_convolutions=whole.encoder_convolutions[: level + 1],
            decoder_convolutions=whole.decoder_convolutions[:level],
            supervision_weights=uniform_weights(level),
        )
    )


@pytest.mark.parametrize("name", ["plain_unet", "mss_unet", "resenc_m"])
def test_sizing_by_convolutions_counts_what_they_write(name: str, plan: ConfigurationMaker) -> None:
    """nnU-Net's measure, except that nnU-Net also counts a way past that is pooled and nothing else."""
    configuration = plan(name, 3, anisotropic=True)
    if not configuration.row.counts_all_heads:
        configuration = replace(configuration, supervision_weights=(1.0,))
    counted = Counted(configuration)
    sized = feature_voxels(configuration.row, configuration.patch_size, configuration.strides, CLASSES)
    assert sized == counted.written
