from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from msseg.networks import build_network
from msseg.networks.encoder_weights import EncoderWeightsError, load_encoder_weights
from msseg.networks.grid_network import GridNetwork
from planning.errors import PlanError
from planning.plan import Configuration

ConfigurationMaker = Callable[..., Configuration]

# Where torchvision's VGG16 has its convolutions, without and with batch norms; 64 to 512 channels.
VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
VGG16_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def encoder_parameters(network: GridNetwork, levels: range) -> int:
    return sum(parameter.numel() for level in levels for parameter in network.nodes[f"{level}_0"].parameters())


def on_meta(configuration: Configuration, in_channels: int = 3) -> GridNetwork:
    with torch.device("meta"):
        return GridNetwork(configuration, in_channels, num_classes=2)


def batch_norm(name: str, channels: int) -> dict[str, torch.Tensor]:
    values = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{value}": torch.full((channels,), float(number)) for number, value in enumerate(values)}


def vgg16_weights(levels: int, batch_norms: bool) -> dict[str, torch.Tensor]:
    """Random weights of the first blocks by torchvision's names, of a classifier too."""
    weights, before = {"classifier.0.weight": torch.zeros(2, 2)}, 3
    convolutions = (2, 4, 7, 10, 13)[levels - 1]
    generator = torch.Generator().manual_seed(1)
    for index, width in zip((VGG16_BN if batch_norms else VGG16)[:convolutions], VGG16_WIDTHS, strict=False):
        weights[f"features.{index}.weight"] = torch.randn(width, before, 3, 3, generator=generator)
        weights[f"features.{index}.bias"] = torch.randn(width, generator=generator)
        if batch_norms:
            weights |= batch_norm(f"features.{index + 1}", width)
        before = width
    return weights


def test_the_encoders_have_the_parameters_of_torchvisions(grid_configuration: ConfigurationMaker) -> None:
    narrow = {"features": (2,) * 5, "norm": "none"}
    assert encoder_parameters(on_meta(grid_configuration("unet", 2, encoder="vgg16", **narrow)), range(5)) == 14_714_688
    six = grid_configuration("mss_unet", 2, features=(2,) * 6, encoder="resnet101", norm="batch")
    # The published 44,549,160 without the classifier's 2048 · 1000 + 1000.
    assert encoder_parameters(on_meta(six), range(1, 6)) == 44_549_160 - 2_049_000


@pytest.mark.parametrize("name", ["unet", "unet_sharp", "unet3p", "attention_unet", "vnet", "render_unet"])
@pytest.mark.parametrize(("encoder", "levels"), [("vgg16", 3), ("resnet101", 3)])
def test_an_encoder_stands_in_any_2d_grid(
    encoder: str, levels: int, name: str, grid_configuration: ConfigurationMaker
) -> None:
    configuration = grid_configuration(name, 2, levels=levels, anisotropic=True, encoder=encoder)
    network = build_network(configuration, 1, 2)
    outputs = network(torch.randn(2, 1, 9, 11, generator=torch.Generator().manual_seed(1)))
    assert outputs.logits[0].shape == (2, 2, 9, 11)
    answers = [*outputs.logits, *outputs.coarse, *(points.logits for points in outputs.points)]
    torch.stack([answer.square().mean() for answer in answers]).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_an_encoder_of_the_literature_is_refused_in_3d_and_below_its_last_level(
    grid_configuration: ConfigurationMaker,
) -> None:
    with pytest.raises(PlanError, match=r"'vgg16' in 3D"):
        on_meta(grid_configuration("unet", 3, encoder="vgg16"))
    with pytest.raises(PlanError, match=r"vgg16 has 5 levels at most, found 6"):
        on_meta(grid_configuration("plain_unet", 2, features=(2,) * 6, encoder="vgg16"))


@pytest.mark.parametrize("batch_norms", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_by_torchvisions_names_make_vgg16(
    suffix: str, batch_norms: bool, tmp_path: Path, grid_configuration: ConfigurationMaker
) -> None:
    weights, path = vgg16_weights(2, batch_norms), tmp_path / f"vgg16{suffix}"
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    norm = "batch" if batch_norms else "none"
    network = build_network(grid_configuration("unet", 2, levels=2, encoder="vgg16", norm=norm), 3, 2).eval()
    names = load_encoder_weights(network, path)
    assert set(names) == set(weights) - {"classifier.0.weight"}
    x = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = network.nodes["1_0"](nn.functional.max_pool2d(network.nodes["0_0"](x), 2))
        torch.testing.assert_close(ours, reference_vgg16(weights, batch_norms)(x), rtol=1e-4, atol=1e-4)


def reference_vgg16(weights: dict[str, torch.Tensor], batch_norms: bool) -> nn.Module:
    """The first two blocks as one row of modules, numbered as torchvision numbers them."""
    layers: list[nn.Module] = []
    before = 3
    for width in (64, 64, "pool", 128, 128):
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(before, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] if batch_norms else []
        layers.append(nn.ReLU())
        before = width
    module = nn.Sequential(*layers).eval()
    named = {name.removeprefix("features."): value for name, value in weights.items() if name.startswith("features")}
    module.load_state_dict(named, strict=False)
    return module


def resnet101_weights() -> dict[str, torch.Tensor]:
    """Random weights of the stem and the first layer by torchvision's names."""
    generator = torch.Generator().manual_seed(1)

    def unit(convolution: str, norm: str, *shape: int) -> dict[str, torch.Tensor]:
        spread = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        values = {f"{convolution}.weight": spread * torch.randn(*shape, generator=generator)}
        for name in ("weight", "running_var"):
            values[f"{norm}.{name}"] = 0.5 + torch.rand(shape[0], generator=generator)
        for name in ("bias", "running_mean"):
            values[f"{norm}.{name}"] = torch.randn(shape[0], generator=generator)
        return values

    weights = unit("conv1", "bn1", 64, 3, 7, 7)
    for block in range(3):
        own = f"layer1.{block}"
        weights |= unit(f"{own}.conv1", f"{own}.bn1", 64, 256 if block else 64, 1, 1)
        weights |= unit(f"{own}.conv2", f"{own}.bn2", 64, 64, 3, 3)
        weights |= unit(f"{own}.conv3", f"{own}.bn3", 256, 64, 1, 1)
    return weights | unit("layer1.0.downsample.0", "layer1.0.downsample.1", 256, 64, 1, 1)


def reference_resnet101(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Stem and first layer, written out with functions."""

    def unit(y: torch.Tensor, convolution: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{convolution}.weight"]
        y = nn.functional.conv2d(y, kernel, stride=stride, padding=kernel.shape[2] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return nn.functional.batch_norm(y, *(weights[f"{norm}.{name}"] for name in names))

    x = nn.functional.max_pool2d(unit(x, "conv1", "bn1", stride=2).relu(), 3, stride=2, padding=1)
    for block in range(3):
        own = f"layer1.{block}"
        y = unit(unit(x, f"{own}.conv1", f"{own}.bn1").relu(), f"{own}.conv2", f"{own}.bn2").relu()
        past = x if block else unit(x, f"{own}.downsample.0", f"{own}.downsample.1")
        x = (unit(y, f"{own}.conv3", f"{own}.bn3") + past).relu()
    return x


def test_weights_by_torchvisions_names_make_resnet101(tmp_path: Path, grid_configuration: ConfigurationMaker) -> None:
    weights, path = resnet101_weights(), tmp_path / "resnet101.safetensors"
    save_file(weights, path)
    network = build_network(grid_configuration("unet", 2, levels=3, encoder="resnet101"), 3, 2).eval()
    assert set(load_encoder_weights(network, path)) == set(weights)
    x = torch.rand(1, 3, 13, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = network.nodes["2_0"](network.nodes["1_0"](x))
        torch.testing.assert_close(ours, reference_resnet101(weights, x), rtol=1e-4, atol=1e-4)


def test_an_image_of_one_channel_sees_what_three_equal_ones_would(
    tmp_path: Path, grid_configuration: ConfigurationMaker
) -> None:
    weights, path = vgg16_weights(2, batch_norms=False), tmp_path / "vgg16.safetensors"
    save_file(weights, path)
    configuration = grid_configuration("unet", 2, levels=2, encoder="vgg16", norm="none")
    gray, colour = (build_network(configuration, channels, 2).eval() for channels in (1, 3))
    for network in (gray, colour):
        load_encoder_weights(network, path)
    x = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one, three = gray.nodes["0_0"](x), colour.nodes["0_0"](x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weights: weights.pop("features.5.weight"), "features.5.weight is missing"),
        (lambda weights: weights.update({"features.2.bias": torch.zeros(3)}), r"features.2.bias: found shape \(3,\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_nothing_is_changed(
    spoil: Callable[[dict[str, torch.Tensor]], object],
    message: str,
    tmp_path: Path,
    grid_configuration: ConfigurationMaker,
) -> None:
    weights, path = vgg16_weights(2, batch_norms=False), tmp_path / "vgg16.safetensors"
    spoil(weights)
    save_file(weights, path)
    network = build_network(grid_configuration("unet", 2, levels=2, encoder="vgg16"), 3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(EncoderWeightsError, match=message):
        load_encoder_weights(network, path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_files_that_are_no_weights_and_networks_without_such_an_encoder_are_refused(
    tmp_path: Path, grid_configuration: ConfigurationMaker
) -> None:
    network = build_network(grid_configuration("unet", 2, levels=2, encoder="vgg16"), 3, 2)
    path = tmp_path / "weights.pth"
    with pytest.raises(EncoderWeightsError, match="no such file"):
        load_encoder_weights(network, path)
    path.write_bytes(b"no weights")
    with pytest.raises(EncoderWeightsError, match="not a file of weights"):
        load_encoder_weights(network, path)
    torch.save([1, 2], path)
    with pytest.raises(EncoderWeightsError, match="found list"):
        load_encoder_weights(network, path)
    with pytest.raises(EncoderWeightsError, match="encoder is 'blocks'"):
        load_encoder_weights(build_network(grid_configuration("unet", 2), 3, 2), path)
    save_file(vgg16_weights(2, batch_norms=True), tmp_path / "bn.safetensors")
    bare = build_network(grid_configuration("unet", 2, levels=2, encoder="vgg16", norm="none"), 3, 2)
    with pytest.raises(EncoderWeightsError, match="norm=batch"):
        load_encoder_weights(bare, tmp_path / "bn.safetensors")
