"""Activations to fifty digits, one number at a time, and their ratio by its definition."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext

import torch
from torch import Tensor

Formula = Callable[[Decimal], Decimal]
_DIGITS = 50
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def tanh(x: Decimal) -> Decimal:
    return (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())


def softplus(x: Decimal) -> Decimal:
    return (1 + x.exp()).ln()


def erf(x: Decimal) -> Decimal:
    """2/sqrt(pi) sum_k (-1)^k x^(2k+1) / (k! (2k+1))."""
    if abs(x) > 7:
        return Decimal(1).copy_sign(x)
    with localcontext() as wider:  # the terms are larger than their sum
        wider.prec = _DIGITS + 60
        total, power = Decimal(0), x
        for k in range(1, 400):
            total += power / (2 * k - 1)
            power *= -x * x / k
        return total * 2 / _PI.sqrt()


def silu(x: Decimal) -> Decimal:
    return x * sigmoid(x)


def mish(x: Decimal) -> Decimal:
    return x * tanh(softplus(x))


def gelu(x: Decimal) -> Decimal:
    return x * (1 + erf(x / Decimal(2).sqrt())) / 2


def gelu_tanh(x: Decimal) -> Decimal:
    inner = (2 / _PI).sqrt() * (x + Decimal("0.044715") * x**3)
    return x * (1 + tanh(inner)) / 2


def between(low: str, high: str) -> Formula:
    return lambda x: min(max(x, Decimal(low)), Decimal(high))


def hardsigmoid(x: Decimal) -> Decimal:
    return between("0", "6")(x + 3) / 6


def hardswish(x: Decimal) -> Decimal:
    return x * hardsigmoid(x)


def elu(alpha: str = "1", scale: str = "1", rate: str = "1") -> Formula:
    a, s, r = Decimal(alpha), Decimal(scale), Decimal(rate)
    return lambda x: s * x if x > 0 else s * a * ((r * x).exp() - 1)


def leaky_relu(slope: str) -> Formula:
    return lambda x: x if x > 0 else Decimal(slope) * x


def softsign(x: Decimal) -> Decimal:
    return x / (1 + abs(x))


def softshrink(x: Decimal) -> Decimal:
    return x - between("-0.5", "0.5")(x)


def hardshrink(x: Decimal) -> Decimal:
    return x if abs(x) > Decimal("0.5") else Decimal(0)


def threshold(limit: str, value: str) -> Formula:
    return lambda x: x if x > Decimal(limit) else Decimal(value)


def ratio(formula: Formula, x: Tensor, limit: float) -> Tensor:
    """Return (f(x) - f(0)) / x, and ``limit`` where x is 0."""
    with localcontext() as context:
        context.prec = _DIGITS
        at_zero = formula(Decimal(0))
        values = [
            limit if v == 0 else float((formula(Decimal(v)) - at_zero) / Decimal(v))
            for v in x.flatten().tolist()
        ]
    return torch.tensor(values, dtype=torch.float64).view_as(x)


def apply(formula: Formula, x: Tensor) -> Tensor:
    with localcontext() as context:
        context.prec = _DIGITS
        values = [float(formula(Decimal(v))) for v in x.flatten().tolist()]
    return torch.tensor(values, dtype=torch.float64).view_as(x)
