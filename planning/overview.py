"""The table of networks with what each would cost on one patch: parameters, multiply-adds, memory, pruning levels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planning.counting import multiply_adds, parameters
from planning.grids import PRUNABLE
from planning.network_row import NetworkRow
from planning.networks import NETWORKS
from planning.plan import Configuration
from planning.training_memory import step_memory
from planning.weights import SUPERVISION

_REFERENCE_PATCH = {2: (256, 256), 3: (64, 64, 64)}
_REFERENCE_LEVELS = 5


@dataclass(frozen=True)
class NetworkFigures:
    """One network on one patch.

    `multiply_adds` are of one sample in evaluation, `memory_bytes` the predicted peak of one training step in single
    precision with SGD, `supervised` counts the heads. `pruning_levels` are those it can be cut to.
    """

    name: str
    title: str
    year: int
    source: str
    dimensions: int
    levels: int
    parameters: int
    multiply_adds: int
    memory_bytes: int
    supervised: int
    pruning_levels: tuple[int, ...]


def reference_configuration(dimensions: int) -> Configuration:
    """A configuration to compare networks on: two patches of 256² or 64³ voxels of 1 mm, five levels of stride 2."""
    row, patch = NETWORKS["unet"], _REFERENCE_PATCH[dimensions]
    encoder, decoder = row.depths(_REFERENCE_LEVELS)
    return Configuration(
        name=f"{dimensions}d",
        dimensions=dimensions,
        spacing_mm=(1.0,) * dimensions,
        median_shape=patch,
        patch_size=patch,
        batch_size=2,
        network=row.name,
        features=row.features(_REFERENCE_LEVELS, dimensions),
        strides=((2,) * dimensions,) * (_REFERENCE_LEVELS - 1),
        kernel_sizes=((3,) * dimensions,) * _REFERENCE_LEVELS,
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        supervision_weights=(1.0,),
        batch_dice=True,
        dummy_2d=False,
        image_order=3,
        label_order=1,
        score_order=1,
        mirror_axes=tuple(range(dimensions)),
    )


def with_network(configuration: Configuration, row: NetworkRow) -> Configuration:
    """The configuration's patch and batch with another network, as deep as the patch and the row allow."""
    levels = min(len(configuration.features), row.most_levels or len(configuration.features))
    encoder, decoder = row.depths(levels)
    return replace(
        configuration,
        network=row.name,
        network_options={},
        features=row.features(levels, configuration.dimensions),
        strides=configuration.strides[: levels - 1],
        kernel_sizes=configuration.kernel_sizes[:levels],
        encoder_convolutions=encoder,
        decoder_convolutions=decoder,
        supervision_weights=SUPERVISION[row.supervision](len(row.supervised(levels))),
    )


def network_figures(
    row: NetworkRow, configuration: Configuration, in_channels: int, num_classes: int
) -> NetworkFigures:
    """What the network of `row` would be and cost on the configuration's patch and batch."""
    own = with_network(configuration, row)
    levels = len(own.features)
    return NetworkFigures(
        name=row.name,
        title=row.title,
        year=row.year,
        source=row.source,
        dimensions=own.dimensions,
        levels=levels,
        parameters=parameters(own, in_channels, num_classes),
        multiply_adds=multiply_adds(own, in_channels, num_classes),
        memory_bytes=step_memory(own, in_channels, num_classes).peak,
        supervised=len(own.supervision_weights),
        pruning_levels=tuple(range(1, levels)) if row.grid in PRUNABLE else (),
    )
