"""Products: a gate is the h of what it multiplies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.saliency import WBP
from tests.saliency import recursion as r
from tests.saliency.cases import Case, check, parametrised


class SqueezeExcitation(nn.Module):
    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up, self.gate = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1), gate

    def weights(self, x: Tensor) -> Tensor:
        return self.gate(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.weights(x) * x


class GateInPlace(SqueezeExcitation):
    """A gate of every place that takes the product."""

    def weights(self, x: Tensor) -> Tensor:
        return self.gate(self.up(F.relu(self.down(x))))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights(x)
        weights.mul_(x)
        return weights


def monai_gate(m: Any) -> Callable[[Tensor], Tensor]:
    def gate(x: Tensor) -> Tensor:
        y = x.mean((2, 3)) @ m.fc[0].weight.T + m.fc[0].bias
        y = y.clamp(min=0) @ m.fc[2].weight.T + m.fc[2].bias
        return (1 / (1 + torch.exp(-y)))[:, :, None, None]

    return gate


def monai(name: str, *args: Any, **kwargs: Any) -> Any:
    from monai.networks import blocks

    return getattr(blocks, name)(*args, **kwargs)


def torchvision_se() -> Any:
    from torchvision.ops import SqueezeExcitation as TorchvisionSE

    return TorchvisionSE(4, 2)


GATES = [
    Case(
        "SE, sigmoid",
        lambda: SqueezeExcitation(nn.Sigmoid()),
        lambda m: [r.Gate(m.weights)],
        (2, 4, 3, 5),
    ),
    Case(
        "SE, hardsigmoid",
        lambda: SqueezeExcitation(nn.Hardsigmoid()),
        lambda m: [r.Gate(m.weights)],
        (2, 4, 3, 5),
    ),
    Case(
        "SE, softmax over channels",
        lambda: SqueezeExcitation(nn.Softmax(1)),
        lambda m: [r.Gate(m.weights)],
        (2, 4, 3, 5),
    ),
    Case(
        "gate multiplied in place",
        lambda: GateInPlace(nn.Hardsigmoid()),
        lambda m: [r.Gate(m.weights)],
        (2, 4, 3, 5),
    ),
    Case("SE of torchvision", torchvision_se, lambda m: [r.Gate(m._scale)], (2, 4, 3, 5)),
    Case(
        "SE of MONAI",
        lambda: monai("ChannelSELayer", 2, 4),
        lambda m: [r.Gate(monai_gate(m))],
        (2, 4, 3, 5),
    ),
    Case(
        "residual SE of MONAI",
        lambda: monai("ResidualSELayer", 2, 4, 2, "relu", "sigmoid"),
        lambda m: [r.Sum(r.Chain(), r.Gate(monai_gate(m)))],
        (2, 4, 3, 5),
    ),
    Case(
        "GLU",
        lambda: nn.GLU(1),
        lambda _: [
            r.Gate(lambda x: torch.cat([torch.sigmoid(x[:, 2:]), torch.zeros_like(x[:, 2:])], 1)),
            r.AnyLinear(lambda x: x[:, :2]),
        ],
        (2, 4, 3, 3),
    ),
    Case(
        "division by a norm",
        lambda: lambda x: x / (1 + x.std((2, 3), keepdim=True)),
        lambda _: [r.Gate(lambda x: 1 / (1 + x.std((2, 3), keepdim=True)))],
        (2, 4, 3, 3),
    ),
]


@parametrised(GATES)
def test_gate(case: Case) -> None:
    check(case)


def test_derivatives_of_a_gate_multiplied_in_place() -> None:
    torch.manual_seed(0)
    module, image = GateInPlace(nn.Hardsigmoid()).double(), torch.randn(2, 4, 3, 5).double()
    expected = torch.autograd.grad(module(image).square().sum(), list(module.parameters()))
    output = WBP().record(module, image).output
    got = torch.autograd.grad(output.square().sum(), list(module.parameters()))
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12)
