"""The predicted memory of a training step against the living tensors of a real one on the CPU.

The real step runs PyTorch's own operators, as a GPU or autocast would; the measure counts the storages that operators
return, and no scratch memory inside them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import msseg.networks.convolutions
import msseg.networks.grid_network
import msseg.networks.norm_activation
from msseg.losses import SupervisedLoss, build_loss
from msseg.networks import build_network
from msseg.pipeline.live_memory import peak_bytes
from planning.counting import parameters
from planning.errors import PlanError
from planning.networks import NETWORKS, network_row
from planning.training_memory import step_memory
from planning.weights import SUPERVISION

CPU = torch.device("cpu")
TOLERANCE = 0.03
FRAMES = {
    "2d": {
        "patch_size": (64, 48),
        "features": (16, 32, 64, 128),
        "strides": ((2, 2), (2, 1), (2, 2)),
        "kernel_sizes": ((3, 3),) * 4,
    },
    "3d": {
        "patch_size": (8, 24, 24),
        "features": (16, 32, 64),
        "strides": ((1, 2, 2), (2, 2, 2)),
        "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    },
}


@pytest.fixture
def own_operators(monkeypatch):
    """PyTorch's operators in place of the hand-made ones of the CPU."""
    modules = (msseg.networks.grid_network, msseg.networks.convolutions, msseg.networks.norm_activation)
    for module in modules:
        monkeypatch.setattr(module, "serves", lambda x: False)


@pytest.fixture
def planned(make_configuration):
    """A function from a frame, a network and options to a configuration."""

    def plan(frame, network, options=None, **changes):
        row, levels = network_row(network, options), len(FRAMES[frame]["features"])
        encoder, decoder = row.depths(levels)
        return make_configuration(
            **FRAMES[frame],
            network=network,
            network_options=options or {},
            encoder_convolutions=encoder,
            decoder_convolutions=decoder,
            supervision_weights=SUPERVISION[row.supervision](len(row.supervised(levels))),
            **changes,
        )

    return plan


def measured(configuration, optimiser="sgd", num_classes=3):
    """Bytes of a second training step at its peak, with what is there before it: weights, states, images, labels."""
    network = build_network(configuration, 1, num_classes, torch.Generator().manual_seed(1)).train()
    loss = SupervisedLoss(
        build_loss("exp_log_dice_ce", (1.0,) * num_classes, batch_dice=True),
        configuration.supervision_weights,
        level_targets=configuration.row.level_targets,
        class_order=range(num_classes - 1, 0, -1),
    )
    kinds = {"sgd": lambda weights: torch.optim.SGD(weights, 1e-3, momentum=0.9), "adam": torch.optim.Adam}
    update = kinds[optimiser](network.parameters())
    image = torch.randn(
        configuration.batch_size, 1, *configuration.patch_size, generator=torch.Generator().manual_seed(2)
    )
    labels = torch.zeros(configuration.batch_size, *configuration.patch_size, dtype=torch.int64)

    def step():
        update.zero_grad(set_to_none=True)
        loss(network(image), labels).backward()
        update.step()

    step()
    update.zero_grad(set_to_none=True)
    weights = sum(weight.nbytes for weight in network.parameters())
    states = weights * {"sgd": 1, "adam": 2}[optimiser]
    return weights + states + image.nbytes + labels.nbytes + peak_bytes(step, CPU)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_what_a_step_takes_is_predicted(network, frame, planned, own_operators):
    configuration = planned(frame, network)
    predicted = step_memory(configuration, in_channels=1, num_classes=3)
    assert predicted.parameters == 4 * parameters(configuration, 1, 3)
    assert predicted.peak == pytest.approx(measured(configuration), rel=TOLERANCE)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("unet", {"encoder": "vgg16"}),
        ("unet", {"encoder": "resnet101"}),
        ("unet_sharp", {"guidance": "branches"}),
        ("unet2p", {"encoder_block": "residual", "decoder_block": "residual", "gate": "attention"}),
        ("unet2p", {"points": "upsampled", "norm": "instance"}),
        ("unet_school", {"padding": "mirrored"}),
    ],
)
def test_what_a_step_takes_is_predicted_for_options(network, options, planned, own_operators):
    configuration = planned("2d", network, options)
    assert step_memory(configuration, 1, 3).peak == pytest.approx(measured(configuration), rel=TOLERANCE)


def test_adams_states_and_single_samples_are_predicted(planned, own_operators):
    configuration = planned("2d", "unet", batch_size=1)
    assert step_memory(configuration, 1, 3, "adam").peak == pytest.approx(
        measured(configuration, "adam"), rel=TOLERANCE
    )


def test_autocast_halves_what_is_kept_but_keeps_weights_twice(planned):
    configuration = replace(planned("2d", "plain_unet"), patch_size=(256, 256))
    single, half = (step_memory(configuration, 1, 3, value_bytes=size) for size in (4, 2))
    assert half.parameters == single.parameters
    assert 0.5 * single.peak < half.peak < 0.65 * single.peak


def test_convolutions_without_padding_are_refused(planned):
    with pytest.raises(PlanError, match="padding: found 'valid'"):
        step_memory(planned("2d", "unet_school", {"padding": "valid"}), 1, 3)
