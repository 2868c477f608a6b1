from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from msseg.networks import build_network
from msseg.networks.grid_network import GridNetwork
from msseg.networks.outputs import Rendered
from msseg.networks.points import (
    RENDERERS,
    RendererShape,
    cell_centres,
    nearest_cells,
    random_points,
    rendering_source,
    replace_cells,
    replace_distinct_cells,
    sample,
    uncertain_cells,
    uncertainty,
    values_at,
)
from planning.errors import PlanError
from planning.grids import Node
from planning.network_row import NetworkRow, with_options
from planning.networks import NETWORKS
from planning.plan import Configuration
from planning.point_counts import scaled_points, training_points

ConfigurationMaker = Callable[..., Configuration]

WIDTHS = (32, 64, 128, 256, 512)


def make_renderer(replaces: str = "encoder", num_classes: int = 2, **changes: int | None) -> torch.nn.Module:
    """A renderer with weights of a fixed seed: 3 channels of the encoder's, 5 that came up, 6 below."""
    fields = {
        "dimensions": 2,
        "encoder_channels": 3,
        "upsampled_channels": 5,
        "deeper_channels": 6,
        "width": 4,
        "cells_per_cell": 1,
        "point_count": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return RENDERERS[replaces](RendererShape(num_classes=num_classes, **{**fields, **changes}))


def make_maps(size: tuple[int, ...], coarser: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 3, *size), (2, 5, *size), (2, 6, *coarser))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def school_network(configuration: ConfigurationMaker, network: str, levels: int, num_classes: int) -> GridNetwork:
    """A network of the school in 2D on the meta device, one channel in."""
    plan = configuration(
        (256, 256),
        network=network,
        features=WIDTHS[:levels],
        strides=((2, 2),) * (levels - 1),
        kernel_sizes=((3, 3),) * levels,
        supervision_weights=(1 / (levels - 1),) * (levels - 1),
    )
    with torch.device("meta"):
        return GridNetwork(plan, in_channels=1, num_classes=num_classes)


def test_uncertainty_of_one_output_is_the_distance_of_its_sigmoid_from_a_half() -> None:
    logits = torch.tensor([[[0.0, np.log(3), -np.log(3)]]])  # probabilities 0.5, 0.75, 0.25
    torch.testing.assert_close(uncertainty(logits), torch.tensor([[0.0, -0.25, -0.25]]))


def test_uncertainty_of_several_classes_is_the_gap_between_the_two_most_likely() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.45, 0.45], [0.9, 0.1, 0.0]])
    found = uncertainty(probabilities.log().T[None])
    torch.testing.assert_close(found, torch.tensor([[-0.2, 0.0, -0.8]]))


def test_the_most_uncertain_cells_of_a_4_by_4_grid_are_picked() -> None:
    logits = torch.tensor(
        [
            [9.0, 9.0, -8.0, 7.0],
            [9.0, 0.1, -0.3, 7.0],
            [6.0, 0.2, 9.0, -5.0],
            [6.0, 6.0, 9.0, 0.4],
        ]
    )
    # by nearness to 0: (1, 1), (2, 1), (1, 2), (3, 3)
    assert uncertain_cells(logits[None, None], 4).tolist() == [[5, 9, 6, 15]]


def test_three_quarters_of_the_random_points_are_the_most_uncertain_candidates() -> None:
    coarse = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    points = random_points(coarse, 10)
    torch.manual_seed(5)
    candidates = torch.rand(2, 30, 2)
    fresh = torch.rand(2, 3, 2)
    assert points.shape == (2, 10, 2)
    for one, drawn, certain in zip(points, candidates, uncertainty(sample(coarse, candidates).mT), strict=True):
        best = sorted(range(30), key=lambda i: -float(certain[i]))[:7]  # 0.75 of 10, rounded down
        torch.testing.assert_close(one[:7], drawn[best])
    torch.testing.assert_close(points[:, 7:], fresh)


def test_random_points_gather_where_the_class_is_undecided() -> None:
    coarse = torch.zeros(1, 1, 8, 8)
    coarse[..., 4:] = 5.0  # undecided on the left half
    torch.manual_seed(0)
    columns = random_points(coarse, 200)[0, :, 1]
    assert (columns[:150] < 0.57).all()
    assert 5 < int((columns[150:] > 0.5).sum()) < 45


def test_drawing_points_leaves_no_gradient() -> None:
    coarse = torch.randn(1, 2, 4, 4, requires_grad=True)
    assert not random_points(coarse, 4).requires_grad


@pytest.mark.parametrize("size", [(6, 9), (4, 3, 5)])
def test_sampling_agrees_with_scipy(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, 3, *size, generator=generator)
    coordinates = torch.rand(2, 40, len(size), generator=generator)
    found = sample(features, coordinates)
    assert found.shape == (2, 40, 3)
    for b in range(2):
        places = (coordinates[b].numpy() * size - 0.5).T
        for c in range(3):
            wanted = map_coordinates(features[b, c].numpy(), places, order=1, mode="nearest")
            np.testing.assert_allclose(found[b, :, c], wanted, atol=1e-5)


def test_sampling_low_precision_features_keeps_exact_coordinates() -> None:
    features = torch.arange(512.0)[None, None, None].bfloat16().expand(1, 1, 4, 512)
    found = sample(features, torch.tensor([[[0.5, 255.5 / 512]]]))
    assert found.dtype == torch.bfloat16
    assert found.item() == 255.0


@pytest.mark.parametrize("size", [(5, 3), (2, 5, 3)])
def test_values_at_cells_are_what_sampling_gives_at_their_centres(size: tuple[int, ...]) -> None:
    features = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(4))
    cells = torch.arange(int(np.prod(size)))[None]
    centres = cell_centres(cells, size)
    torch.testing.assert_close(sample(features, centres), values_at(features, cells))
    assert torch.equal(nearest_cells(centres, size), cells)


def test_points_lie_in_the_cells_of_a_grid_of_4_by_2() -> None:
    coordinates = torch.tensor([[[0.0, 0.0], [0.24, 0.51], [0.26, 0.49], [0.99, 0.99], [1.0, 1.0]]])
    assert nearest_cells(coordinates, (4, 2)).tolist() == [[0, 1, 2, 7, 7]]


def test_only_the_chosen_cells_are_replaced_and_shared_ones_get_the_mean() -> None:
    features = torch.zeros(1, 2, 2, 3)
    values = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]])
    replaced = replace_cells(features, torch.tensor([[5, 0, 5]]), values)
    assert replaced[0, 0].tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 2.5]]
    assert replaced[0, 1].tolist() == [[20.0, 0.0, 0.0], [0.0, 0.0, 25.0]]


def test_gradients_go_to_the_values_in_replaced_cells_and_to_the_features_elsewhere() -> None:
    features = torch.zeros(1, 1, 2, 2, requires_grad=True)
    values = torch.zeros(1, 3, 1, requires_grad=True)
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    (replace_cells(features, torch.tensor([[3, 1, 3]]), values) * weights).sum().backward()
    assert features.grad is not None and features.grad.tolist() == [[[[1.0, 0.0], [3.0, 0.0]]]]
    assert values.grad is not None and values.grad.flatten().tolist() == [2.0, 2.0, 2.0]  # 4 / 2, 2, 4 / 2


def test_writing_distinct_cells_equals_adding_them_in_any_layout() -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(6))
    values = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(7))
    cells = torch.tensor([[0, 19, 7], [3, 4, 5]])
    wanted = replace_cells(features, cells, values)
    for layout in (torch.contiguous_format, torch.channels_last):
        one = features.contiguous(memory_format=layout)
        torch.testing.assert_close(replace_distinct_cells(one, cells, values), wanted)
        torch.testing.assert_close(replace_cells(one, cells, values), wanted)


def test_256_by_256_cells_get_the_papers_8096_points_and_volumes_at_most_32768() -> None:
    assert scaled_points(256 * 256, 2) == 8096
    assert scaled_points(128 * 128, 2) == 2024
    assert scaled_points(1024 * 1024, 2) == 129536
    assert scaled_points(40 * 56 * 40, 3) == 11069  # 8096 / 65536 of 89,600 is 11068.75
    assert scaled_points(128**3, 3) == 32768
    assert scaled_points(1, 2) == 1


def test_training_has_no_more_candidates_than_a_small_level_has_cells() -> None:
    assert training_points(8096, 16 * 16) == 86
    assert training_points(8096, 256 * 256) == 8096


def test_a_level_counts_its_points_from_full_resolution() -> None:
    def points(size: tuple[int, ...], cells_per_cell: int, training: bool, count: int | None = None) -> int:
        return RendererShape(2, 1, 1, 1, 1, 1, cells_per_cell, count).points(size, training)

    assert [points((256 >> i, 256 >> i), 4**i, training=False) for i in range(4)] == [8096, 8096, 4096, 1024]
    assert [points((256 >> i, 256 >> i), 4**i, training=True) for i in range(4)] == [8096, 5462, 1366, 342]
    assert points((64, 64), 1, training=False, count=100) == 100
    assert points((4, 4), 1, training=True, count=100) == 6


@pytest.mark.parametrize("replaces", sorted(RENDERERS))
def test_evaluation_refines_the_most_uncertain_cells_alone(replaces: str) -> None:
    renderer, maps = make_renderer(replaces, point_count=6).eval(), make_maps((5, 7), (3, 4))
    with torch.no_grad():
        rendered = renderer(*maps)
    copied = maps[0 if replaces == "encoder" else 1]
    changed = (rendered.features != copied).any(dim=1).flatten(1)  # (b, cells)
    cells = uncertain_cells(rendered.coarse, 6)
    assert torch.equal(changed, torch.zeros_like(changed).scatter(1, cells, torch.ones_like(cells, dtype=torch.bool)))
    torch.testing.assert_close(rendered.points.coordinates, cell_centres(cells, (5, 7)))
    assert rendered.points.logits.shape == (2, 2, 6)
    assert rendered.coarse.shape == (2, 2, 5, 7)


def test_evaluation_asks_no_random_numbers_and_repeats_itself() -> None:
    renderer, maps = make_renderer().eval(), make_maps((8, 8), (4, 4))
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = renderer(*maps)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(renderer(*maps).features, first.features)


def test_training_draws_the_same_points_from_the_same_seed() -> None:
    renderer, maps = make_renderer(), make_maps((8, 8), (4, 4))

    def render(seed: int) -> Rendered:
        torch.manual_seed(seed)
        return renderer(*maps)

    assert torch.equal(render(1).features, render(1).features)
    assert not torch.equal(render(1).points.coordinates, render(2).points.coordinates)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("replaces", sorted(RENDERERS))
@pytest.mark.parametrize(("size", "coarser"), [((7, 5), (4, 3)), ((4, 7, 6), (4, 4, 3))])
def test_every_parameter_and_every_map_gets_a_gradient(
    size: tuple[int, ...], coarser: tuple[int, ...], replaces: str, num_classes: int, training: bool
) -> None:
    renderer = make_renderer(replaces, num_classes, dimensions=len(size), point_count=9).train(training)
    maps = tuple(one.requires_grad_() for one in make_maps(size, coarser))
    torch.manual_seed(0)
    rendered = renderer(*maps)
    assert rendered.features.shape == maps[0 if replaces == "encoder" else 1].shape
    sum(one.square().sum() for one in (rendered.features, rendered.points.logits, rendered.coarse)).backward()
    for name, parameter in renderer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in maps)


def test_evaluation_exports_and_compiles_as_one_graph() -> None:
    renderer, maps = make_renderer(num_classes=3).eval(), make_maps((6, 5), (3, 3))
    with torch.no_grad():
        wanted = renderer(*maps).features
        exported = torch.export.export(renderer, maps).module()
        torch.testing.assert_close(exported(*maps).features, wanted)
        compiled = torch.compile(renderer, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(*maps).features, wanted)


@pytest.mark.parametrize(
    ("network", "printed"),
    [
        ("render_unet", (127_721, 669_869, 2_914_383, 11_969_554)),
        ("point_unet2p", (125_443, 655_528, 2_848_847, 11_697_656)),
    ],
)
def test_networks_have_the_parameters_of_the_specification(
    network: str, printed: tuple[int, ...], make_configuration: ConfigurationMaker
) -> None:
    for levels, wanted in enumerate(printed, start=2):
        built = school_network(make_configuration, network, levels, num_classes=1)
        assert sum(parameter.numel() for parameter in built.parameters()) == wanted


def test_each_way_up_to_256_by_256_evaluates_21312_points(make_configuration: ConfigurationMaker) -> None:
    network = school_network(make_configuration, "point_unet2p", 5, num_classes=2).eval()
    outputs = network(torch.zeros(1, 1, 256, 256, device="meta"))
    points = {name: one.coordinates.shape[1] for name, one in zip(network.renderers, outputs.points, strict=True)}
    assert [points[f"{level}_{4 - level}"] for level in (3, 2, 1, 0)] == [1024, 4096, 8096, 8096]
    assert sum(points.values()) == 1024 + 2 * 4096 + 3 * 8096 + 4 * 8096


@pytest.mark.parametrize("grid", ["plain", "nested", "sharp", "full_scale"])
@pytest.mark.parametrize("patch_size", [(12, 10), (4, 12, 10)])
@pytest.mark.parametrize("points", sorted(RENDERERS))
def test_points_work_on_any_grid_and_any_size(
    grid: str, patch_size: tuple[int, ...], points: str, make_configuration: ConfigurationMaker
) -> None:
    dimensions = len(patch_size)
    plan = make_configuration(
        patch_size,
        network="plain_unet",
        network_options={"grid": grid, "heads": "last", "points": points},
        features=(4, 6, 8),
        strides=((1,) * (dimensions - 2) + (2, 2), (2,) * dimensions),
        kernel_sizes=((3,) * dimensions,) * 3,
    )
    network = build_network(plan, in_channels=1, num_classes=2)
    size = tuple(length + 1 for length in patch_size)
    for training in (True, False):
        outputs = network.train(training)(torch.ones(1, 1, *size))
        assert outputs.logits[0].shape == (1, 2, *size)
        assert len(outputs.points) == len(outputs.coarse) == len(network.renderers)


def test_an_anisotropic_network_exports_as_a_whole_and_renders_the_same(make_configuration: ConfigurationMaker) -> None:
    plan = make_configuration(
        (4, 12, 10),
        network="render_unet",
        features=(4, 6, 8),
        strides=((1, 2, 2), (2, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        supervision_weights=(0.5, 0.5),
    )
    built = build_network(plan, in_channels=1, num_classes=3).eval()
    x = torch.randn(1, 1, 4, 12, 10, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        exported = torch.export.export(built, (x,)).module()
        for found, wanted in zip(exported(x).logits, built(x).logits, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_network_without_what_rendering_needs_is_refused() -> None:
    def with_points(row: NetworkRow, **options: str) -> NetworkRow:
        return with_options(row, {"points": "encoder", **options})

    assert rendering_source(with_points(NETWORKS["unet"]), Node(0, 2), levels=3) == Node(1, 1)
    with pytest.raises(PlanError, match="fed by the encoder on their level"):
        rendering_source(with_points(NETWORKS["unet"]), Node(1, 0), levels=3)
    with pytest.raises(PlanError, match="padding 'valid'"):
        rendering_source(with_points(NETWORKS["unet"], padding="valid"), Node(0, 2), levels=3)


def test_one_gate_for_features_of_different_widths_is_refused(make_configuration: ConfigurationMaker) -> None:
    options = {"points": "upsampled", "gate": "attention", "gate_per": "node"}
    plan = make_configuration((8, 8), network="unet2p", network_options=options)
    with pytest.raises(PlanError, match="gate_per: found 'node'"):
        build_network(plan, in_channels=1, num_classes=2)
