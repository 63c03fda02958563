"""Activations: h(x) = (f(x) - f(0)) / x to fifty digits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency.engine import activations as act
from tests.saliency import recursion as r
from tests.saliency import slow_activations as slow
from tests.saliency.cases import Case, check, parametrised


def activation_case(
    name: str, module: Callable[..., nn.Module], formula: slow.Formula, limit: float
) -> Case:
    def image(x: Tensor) -> Tensor:
        # From deep saturation to the middle of the series near 0, and 0 itself.
        scales = torch.tensor([10.0, 3.0, 1.0, 0.1, 0.04, 1e-4, 1e-12, 0.0]).double()
        return x * scales.repeat_interleave(x.shape[2] // len(scales)).view(1, 1, -1)

    return Case(name, module, lambda _: [r.Activation(formula, limit)], (2, 2, 64), image=image)


ACTIVATIONS = [
    activation_case(*row)
    for row in [
        ("ReLU", nn.ReLU, slow.leaky_relu("0"), 0.0),
        ("LeakyReLU", lambda: nn.LeakyReLU(0.2), slow.leaky_relu("0.2000000000000000111"), 0.2),
        ("ReLU6", nn.ReLU6, slow.between("0", "6"), 0.0),
        ("Hardtanh", lambda: nn.Hardtanh(-1, 2), slow.between("-1", "2"), 1.0),
        ("ELU", lambda: nn.ELU(1.0), slow.elu(), 1.0),
        ("ELU alpha", lambda: nn.ELU(0.5), slow.elu("0.5"), 0.5),
        ("CELU", lambda: nn.CELU(2.0), slow.elu("2", "1", "0.5"), 1.0),
        (
            "SELU",
            nn.SELU,
            slow.elu("1.6732632423543772848170429916717", "1.0507009873554804934193349852946"),
            1.7580993408473766,
        ),
        ("SiLU", nn.SiLU, slow.silu, 0.5),
        ("GELU", nn.GELU, slow.gelu, 0.5),
        ("GELU tanh", lambda: nn.GELU("tanh"), slow.gelu_tanh, 0.5),
        ("Mish", nn.Mish, slow.mish, 0.6),
        ("Hardswish", nn.Hardswish, slow.hardswish, 0.5),
        ("Sigmoid", nn.Sigmoid, slow.sigmoid, 0.25),
        ("Hardsigmoid", nn.Hardsigmoid, slow.hardsigmoid, 1 / 6),
        ("Tanh", nn.Tanh, slow.tanh, 1.0),
        ("Tanhshrink", nn.Tanhshrink, lambda x: x - slow.tanh(x), 0.0),
        ("Softplus", nn.Softplus, slow.softplus, 0.5),
        ("Softplus beta", lambda: nn.Softplus(2.0, 100), lambda x: slow.softplus(2 * x) / 2, 0.5),
        ("LogSigmoid", nn.LogSigmoid, lambda x: -slow.softplus(-x), 0.5),
        ("Softsign", nn.Softsign, slow.softsign, 1.0),
        ("Softshrink", nn.Softshrink, slow.softshrink, 0.0),
        ("Hardshrink", nn.Hardshrink, slow.hardshrink, 0.0),
        ("Threshold", lambda: nn.Threshold(-0.5, 2.0), slow.threshold("-0.5", "2"), 1.0),
        ("power 3", lambda: lambda x: x**3, lambda x: x * x * x, 0.0),
        ("square", lambda: torch.square, lambda x: x * x, 0.0),
        ("x * x", lambda: lambda x: x * x, lambda x: x * x, 0.0),
        ("x * sigmoid(x)", lambda: lambda x: x * torch.sigmoid(x), slow.silu, 0.5),
    ]
] + [
    Case("PReLU", lambda: nn.PReLU(3), lambda m: [r.PReLU(m)], (2, 3, 4, 5)),
    Case("PReLU shared", nn.PReLU, lambda m: [r.PReLU(m)], (2, 3, 7)),
]


@parametrised(ACTIVATIONS)
def test_activation(case: Case) -> None:
    check(case)


RATIOS: dict[str, tuple[act.Activation, slow.Formula]] = {
    "SiLU": (act.SILU, slow.silu),
    "GELU": (act.gelu(), slow.gelu),
    "GELU tanh": (act.gelu("tanh"), slow.gelu_tanh),
    "Mish": (act.MISH, slow.mish),
    "Hardswish": (act.HARDSWISH, slow.hardswish),
    "ELU": (act.elu(0.5), slow.elu("0.5")),
    "CELU": (act.elu(2.0, 1.0, 0.5), slow.elu("2", "1", "0.5")),
    "Sigmoid": (act.SIGMOID, slow.sigmoid),
    "Tanh": (act.TANH, slow.tanh),
    "Softplus": (act.softplus(2.0), lambda x: slow.softplus(2 * x) / 2),
    "LogSigmoid": (act.LOGSIGMOID, lambda x: -slow.softplus(-x)),
}


@pytest.mark.parametrize("name", RATIOS)
def test_the_ratio_keeps_its_precision_near_zero(name: str) -> None:
    """There the quotient (f(x) - f(0)) / x loses all its digits; its derivative needs them too."""
    activation, formula = RATIOS[name]
    sizes = torch.logspace(-12, 1, 60).double()
    x = torch.cat([-sizes, sizes]).requires_grad_()
    got = activation.ratio(x)
    expected = slow.ratio(formula, x.detach(), 0.0)
    assert ((got - expected).abs() <= 1e-12 * expected.abs() + 1e-15).all()
    (slope,) = torch.autograd.grad(got.sum(), x)
    step = 1e-8
    above = slow.ratio(formula, x.detach() + step, 0.0)
    below = slow.ratio(formula, x.detach() - step, 0.0)
    one_sided = x.abs() > step  # the ratio of ELU has a kink at 0
    assert (slope - (above - below) / (2 * step))[one_sided].abs().max() <= 1e-6
