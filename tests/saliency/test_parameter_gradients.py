"""A loss on the map trains the network: its gradients against central finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.networks.lotenet import LoTeNet
from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import WBP
from tests.saliency.small_networks import Mixed, Plain

Loss = Callable[[], Tensor]


def map_loss(network: nn.Module, image: Tensor, target: Tensor) -> Loss:
    """Mix the ordinary output, a penalty on the map, and what the network says of a masked image.

    The same recorded forward gives the output and the map, as in training.
    """

    def loss() -> Tensor:
        torch.manual_seed(5)
        recording = WBP().record(network, image)
        s = recording.saliency(target, create_graph=True)
        masked = image * (1 - torch.sigmoid(3 * s))
        classification = (
            F.cross_entropy(recording.output, target)
            if recording.output.shape[1] > 1
            else F.softplus(recording.output).mean()
        )
        return classification + s.square().mean() + 0.3 * network(masked).square().mean()

    return loss


def check(network: nn.Module, loss: Loss, step: float = 1e-5, entries: int = 4) -> None:
    """Compare the derivative of the loss by some entries of every parameter."""
    buffers = {name: b.clone() for name, b in network.named_buffers()}

    def value() -> Tensor:
        for name, b in network.named_buffers():
            b.copy_(buffers[name])
        return loss()

    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
    scale = max(float(g.abs().max()) for g in gradients if g is not None)
    assert scale > 1e-3
    generator = torch.Generator().manual_seed(0)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for i in torch.randperm(parameter.numel(), generator=generator)[:entries].tolist():
            flat = parameter.detach().view(-1)
            old = float(flat[i])
            flat[i] = old + step
            above = float(value().detach())
            flat[i] = old - step
            below = float(value().detach())
            flat[i] = old
            expected = (above - below) / (2 * step)
            got = 0.0 if gradient is None else float(gradient.reshape(-1)[i])
            assert abs(got - expected) <= 1e-5 * max(abs(expected), 1e-2 * scale)


def prepared(network: nn.Module, shape: tuple[int, ...], training: bool) -> tuple[Any, Tensor]:
    network = network.double()
    image = torch.randn(shape).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        network.train()(image)
    return network.train(training), image


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_batch_norm_silu_gate_and_attention(spatial_dims: int, training: bool) -> None:
    torch.manual_seed(0)
    shape = (4, 1, *((8,), (5, 6), (3, 4, 3))[spatial_dims - 1])
    network, image = prepared(Mixed(spatial_dims), shape, training)
    check(network, map_loss(network, image, torch.tensor([0, 1, 2, 1])))


@pytest.mark.parametrize("training", [True, False])
def test_piecewise_linear_network(training: bool) -> None:
    torch.manual_seed(1)
    network, image = prepared(Plain(), (4, 1, 8, 8), training)
    check(network, map_loss(network, image, torch.tensor([0, 1, 2, 1])), step=1e-7)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "SiLU": nn.SiLU,
    "SiLU in place": lambda: nn.SiLU(inplace=True),
    "GELU": nn.GELU,
    "GELU tanh": lambda: nn.GELU("tanh"),
    "Mish": nn.Mish,
    "ELU": nn.ELU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Softplus": nn.Softplus,
    "GLU": lambda: nn.GLU(1),
    "LayerNorm": lambda: nn.LayerNorm((5, 5)),
    "RMSNorm": lambda: nn.RMSNorm(5),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "InstanceNorm": lambda: nn.InstanceNorm2d(4, affine=True),
    "BatchNorm": lambda: nn.BatchNorm2d(4),
    "BatchNorm without weights": lambda: nn.BatchNorm2d(4, affine=False),
    "PReLU": nn.PReLU,
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_rule(name: str) -> None:
    torch.manual_seed(2)
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        LAYERS[name](),
        nn.Conv2d(2 if name == "GLU" else 4, 2, 3),
        nn.Flatten(),
        nn.Linear(18, 2),
    )
    network, image = prepared(body, (4, 1, 5, 5), True)
    check(network, map_loss(network, image, torch.tensor([0, 1, 1, 0])))


class ImplicitProducts(nn.Module):
    """Products, powers, quotients and generalised-mean pooling with a trained exponent."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.exponent = nn.Conv2d(1, 4, 3), nn.Parameter(torch.tensor(2.5))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x * torch.sigmoid(x) + x**2 * 0.3
        x = x / (1 + x.std((2, 3), keepdim=True))
        pooled = F.softplus(x).pow(self.exponent).mean((2, 3))
        return self.head(F.normalize(pooled, dim=1))


def test_products_and_powers() -> None:
    torch.manual_seed(3)
    network, image = prepared(ImplicitProducts(), (4, 1, 5, 5), True)
    check(network, map_loss(network, image, torch.tensor([0, 1, 1, 0])))


class Fused(nn.Module):
    """Attention by torch's fused kernel, with a trained bias on its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(4, 12), nn.Linear(4, 2)
        self.bias = nn.Parameter(torch.zeros(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unsqueeze(1).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        return self.head(mixed.squeeze(1).mean(1))


def test_fused_attention() -> None:
    torch.manual_seed(4)
    network, image = prepared(Fused(), (4, 6, 4), True)
    check(network, map_loss(network, image, torch.tensor([0, 1, 1, 0])))


@pytest.mark.parametrize("attention", ["power", "softmax"])
def test_volume_network(attention: Any) -> None:
    """The weights of the slices are constants of the map, but not of a loss on it."""
    torch.manual_seed(6)
    network = MultiViewClassifier(attention=attention, tau=1.0, delta=0.5)
    network, image = prepared(network, (2, 1, 4, 16, 16), True)
    check(network, map_loss(network, image, torch.tensor([0, 1])), step=1e-7, entries=2)


def test_attention_of_the_volume_network_is_trained_by_the_map() -> None:
    torch.manual_seed(6)
    network, image = prepared(MultiViewClassifier(tau=1.0, delta=0.5), (2, 1, 4, 16, 16), True)
    s = WBP()(network, image, 1, create_graph=True)
    (gradient,) = torch.autograd.grad(s.square().sum(), network.attention_head.weight)
    assert gradient.abs().max() > 0


def test_tensor_network() -> None:
    """A single site is left: its chain meets a tensor that is made of parameters alone."""
    torch.manual_seed(7)
    network, image = prepared(LoTeNet(1, 2, 4, layers=1), (3, 1, 4, 4), True)

    def loss() -> Tensor:
        return WBP()(network, image, 1, create_graph=True).square().sum()

    check(network, loss)
