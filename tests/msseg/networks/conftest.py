from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from planning.networks import network_row
from planning.plan import Configuration
from planning.weights import uniform_weights


@pytest.fixture(scope="session")
def grid_configuration(make_configuration: Callable[..., Configuration]) -> Callable[..., Configuration]:
    """Makes a configuration of a few narrow levels (2, 4, 8 features), its row's depths, all heads weighed alike.

    `anisotropic` gives the first level a kernel of 1 and a stride of 1 on the first axis; further keyword arguments are
    network options.
    """

    def make(
        network: str,
        dimensions: int,
        anisotropic: bool = False,
        levels: int = 3,
        features: tuple[int, ...] = (),
        **options: Any,
    ) -> Configuration:
        row = network_row(network, options)
        features = features or tuple(2 * 2**level for level in range(levels))
        flat, cube = (1, *(2,) * (dimensions - 1)), (2,) * dimensions
        kernel = (1 if anisotropic else 3, *(3,) * (dimensions - 1))
        encoder, decoder = row.depths(len(features))
        return make_configuration(
            (2 ** (len(features) - 1),) * dimensions,
            network=network,
            features=features,
            strides=(flat if anisotropic else cube, *(cube,) * (len(features) - 2)),
            kernel_sizes=(kernel, *((3,) * dimensions,) * (len(features) - 1)),
            encoder_convolutions=encoder,
            decoder_convolutions=decoder,
            supervision_weights=uniform_weights(len(row.supervised(len(features)))),
            network_options=options,
        )

    return make
