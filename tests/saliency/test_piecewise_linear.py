"""Where WBP is gradient x input, and where it is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.networks.small_cnn import SmallCNN
from ppi_med.saliency import WBP
from tests.saliency.named_networks import NETWORKS, Named, build

PIECEWISE_LINEAR = {
    "inception_v3",
    "vgg11",
    "resnet18",
    "densenet121",
    "squeezenet1_1",
    "MONAI DenseNet121 2D",
    "MONAI DenseNet121 3D",
}


def gradient_times_input(network: Any, image: Tensor, target: int) -> Tensor:
    leaf = image.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf)[:, target].sum(), leaf)
    return gradient * image


def relative_difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(n, id=n.name, marks=[pytest.mark.slow] if n.slow else [])
        for n in NETWORKS
        if n.name in PIECEWISE_LINEAR
    ],
)
def test_equals_gradient_times_input_in_evaluation(network: Named) -> None:
    module, image = build(network)
    expected = gradient_times_input(module, image, 0)
    assert relative_difference(WBP()(module, image, 0), expected) <= 1e-12


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_equals_gradient_times_input_in_every_dimension(spatial_dims: int) -> None:
    torch.manual_seed(0)
    network = SmallCNN(2, 1, spatial_dims, widths=(4, 8)).double().eval()
    image = torch.randn(2, 1, *([12] * spatial_dims)).double()
    expected = gradient_times_input(network, image, 0)
    assert relative_difference(WBP()(network, image, 0), expected) <= 1e-12


def test_every_piecewise_linear_layer_at_once() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.PReLU(4),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AvgPool2d(2),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).double()
    network(torch.randn(8, 2, 6, 6).double())
    image = torch.randn(3, 2, 6, 6).double()
    expected = gradient_times_input(network.eval(), image, 2)
    assert relative_difference(WBP()(network, image, 2), expected) <= 1e-12


@pytest.mark.parametrize(
    "layer",
    [
        nn.SiLU(),
        nn.GELU(),
        nn.ELU(),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.Softplus(),
        nn.LayerNorm(5),
        nn.GroupNorm(1, 2),
        nn.InstanceNorm1d(2),
        nn.Sequential(nn.LayerNorm(5), nn.MultiheadAttention(5, 1)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_differs_where_the_network_is_not_piecewise_linear(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer = layer.double().eval()

    def network(x: Tensor) -> Tensor:
        if isinstance(layer, nn.Sequential):
            y = layer[0](x)
            return layer[1](y, y, y)[0].flatten(1)
        return layer(x).flatten(1)

    image = torch.randn(3, 2, 5).double()
    expected = gradient_times_input(network, image, 4)
    assert relative_difference(WBP()(network, image, 4), expected) > 1e-3


def test_differs_where_a_relu6_saturates() -> None:
    """h = 6 / x rescales what saturates; the gradient cuts it."""
    image = torch.tensor([[[2.0, 12.0]]]).double()

    def network(x: Tensor) -> Tensor:
        return nn.functional.relu6(x).sum(2)

    assert WBP()(network, image, lambda y: y[:, 0]).tolist() == [[[2.0, 6.0]]]
    assert gradient_times_input(network, image, 0).tolist() == [[[2.0, 0.0]]]


def test_differs_with_batch_statistics() -> None:
    """The rule keeps mean and sigma of the batch fixed, the gradient moves them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 2))
    network.double().train()
    image = torch.randn(4, 1, 5, 5).double()
    s = WBP()(network, image, 0)
    assert relative_difference(s, gradient_times_input(network, image, 0)) > 1e-2
    with torch.no_grad():  # the same statistics as running ones: then the network is affine
        z = network[0](image)
        network[1].running_mean.copy_(z.mean((0, 2, 3)))
        network[1].running_var.copy_(z.var((0, 2, 3), correction=0))
    assert relative_difference(s, gradient_times_input(network.eval(), image, 0)) <= 1e-12


def test_differs_with_a_gate() -> None:
    """The gate is a constant of the rule, the gradient follows it too."""
    image = torch.tensor([[[1.0, -2.0]]]).double()

    def network(x: Tensor) -> Tensor:
        return (x * torch.sigmoid(x.mean(2, keepdim=True))).sum(2)

    gate = torch.sigmoid(image.mean())
    assert torch.allclose(WBP()(network, image, lambda y: y[:, 0]), image * gate)
    assert relative_difference(image * gate, gradient_times_input(network, image, 0)) > 1e-2


def test_of_a_volume_with_its_attention_fixed() -> None:
    """sum w z: the map of the volume is that of its slices, each times its weight."""
    torch.manual_seed(0)
    network = MultiViewClassifier().double().eval()
    image = torch.randn(2, 1, 6, 24, 24).double()
    weights = network.explain(image).slice_weights
    slices = image.transpose(1, 2).flatten(0, 1)
    one_by_one = WBP()(network.slice_classifier(), slices, 1).view(2, 6, 1, 24, 24).transpose(1, 2)
    expected = one_by_one * weights.detach()[:, None, :, None, None]
    assert relative_difference(WBP()(network, image, 1), expected) <= 1e-12
