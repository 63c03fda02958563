"""Activations f with their ratio h(x) = (f(x) - f(0)) / x in closed form (Table 1).

ReLU, LeakyReLU and PReLU are not here: for them h is the derivative, and autograd is the rule.
If a ratio has the form 0/0, a Taylor series is used near 0, so that the ratio and its derivative
keep full precision (|x| < 0.05: truncation below 1e-13).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_NEAR = 0.05


@dataclass(frozen=True)
class Activation:
    """An elementwise function with its relevance rule.

    Attributes:
        value: f.
        ratio: h(x) = (f(x) - f(0)) / x, with its limit at 0.
        at_zero: f(0), a constant like a bias.
    """

    value: Callable[[Tensor], Tensor]
    ratio: Callable[[Tensor], Tensor]
    at_zero: float = 0.0

    def relevance(self, grad: Tensor, x: Tensor) -> tuple[Tensor]:
        """Return `grad * h(x)`."""
        ratio = self.ratio(x)
        if torch.is_grad_enabled() or ratio.dtype != grad.dtype:
            return ((grad * ratio).to(x.dtype),)
        # The ratio is not needed again, and memory that was just written is in the cache.
        return (ratio.mul_(grad).to(x.dtype),)


def _with_series(x: Tensor, series: Sequence[float], far: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `far(x)`, and near 0 the polynomial with these coefficients, lowest first."""
    near = x.abs() < _NEAR
    # `where` alone would pass far's 0/0 into the derivative, so keep its input away from 0 too.
    safe, small = torch.where(near, torch.ones_like(x), x), torch.where(near, x, 0.0)
    polynomial = torch.full_like(x, series[-1])
    for coefficient in reversed(series[:-1]):
        polynomial = polynomial * small + coefficient
    return torch.where(near, polynomial, far(safe))


_EXPM1_OVER_X = [1 / math.factorial(k + 1) for k in range(10)]
_TANH_OVER_X = [1, 0, -1 / 3, 0, 2 / 15, 0, -17 / 315, 0, 62 / 2835, 0, -1382 / 155925]
_LOGCOSH_HALF_OVER_X = [0, 1 / 8, 0, -1 / 192, 0, 1 / 2880, 0, -17 / 645120, 0, 31 / 14515200]


def _tanh_ratio(x: Tensor) -> Tensor:
    return _with_series(x, _TANH_OVER_X, lambda z: torch.tanh(z) / z)


def _softplus_ratio(z: Tensor, threshold: float) -> Tensor:
    """Return h of log(1 + exp(z)), taken as z above the threshold: 1/2 + log cosh(z/2) / z."""

    def far(z: Tensor) -> Tensor:
        return (torch.where(z > threshold, z, F.softplus(z)) - math.log(2)) / z - 0.5

    return 0.5 + _with_series(z, _LOGCOSH_HALF_OVER_X, far)


# f(x) = x sigmoid(x); h = sigmoid(x)
SILU = Activation(F.silu, torch.sigmoid)
# f(x) = x tanh(softplus(x)); h = tanh(softplus(x))
MISH = Activation(F.mish, lambda x: torch.tanh(F.softplus(x)))
# f(x) = x relu6(x + 3) / 6; h = relu6(x + 3) / 6
HARDSWISH = Activation(F.hardswish, lambda x: F.relu6(x + 3) / 6)
# f(x) = tanh(x); h = tanh(x) / x
TANH = Activation(torch.tanh, _tanh_ratio)
# f(x) = sigmoid(x); h = tanh(x/2) / (2x)
SIGMOID = Activation(torch.sigmoid, lambda x: 0.25 * _tanh_ratio(0.5 * x), at_zero=0.5)
# f(x) = relu6(x + 3) / 6; h = 1/6 on the slope, (f - 1/2) / x beside it
HARDSIGMOID = Activation(F.hardsigmoid, lambda x: 0.5 / x.abs().clamp(min=3.0), at_zero=0.5)
# f(x) = x - tanh(x); h = 1 - tanh(x) / x
TANHSHRINK = Activation(F.tanhshrink, lambda x: 1 - _tanh_ratio(x))
# f(x) = log sigmoid(x) = -softplus(-x)
LOGSIGMOID = Activation(F.logsigmoid, lambda x: _softplus_ratio(-x, math.inf), at_zero=-math.log(2))
# f(x) = x / (1 + |x|); h = 1 / (1 + |x|)
SOFTSIGN = Activation(F.softsign, lambda x: 1 / (1 + x.abs()))


def gelu(approximate: str = "none") -> Activation:
    """f(x) = x Phi(x); h = Phi(x), exact or by the tanh approximation."""

    def ratio(x: Tensor) -> Tensor:
        if approximate == "none":
            return 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))

    return Activation(lambda x: F.gelu(x, approximate=approximate), ratio)


def elu(alpha: float = 1.0, scale: float = 1.0, rate: float = 1.0) -> Activation:
    """f(x) = scale x, below 0 scale alpha (exp(rate x) - 1): ELU, CELU (rate 1/alpha), SELU."""

    def value(x: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten.elu(x, alpha, scale, rate)
        return out

    def ratio(x: Tensor) -> Tensor:
        below = torch.clamp(x, max=0.0) * rate
        slope = _with_series(below, _EXPM1_OVER_X, lambda z: torch.expm1(z) / z)
        return scale * torch.where(x > 0, torch.ones_like(x), alpha * rate * slope)

    return Activation(value, ratio)


def softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    """f(x) = log(1 + exp(beta x)) / beta, f(0) = log(2) / beta."""
    return Activation(
        lambda x: F.softplus(x, beta, threshold),
        lambda x: _softplus_ratio(beta * x, threshold),
        at_zero=math.log(2) / beta,
    )


def power(exponent: float) -> Activation:
    """f(x) = x^n with n >= 1; h = x^(n-1)."""
    return Activation(lambda x: x.pow(exponent), lambda x: x.pow(exponent - 1))


def softshrink(width: float = 0.5) -> Activation:
    """f(x) = x - clamp(x, -width, width); h = f(x) / x beyond the width, 0 within."""

    def ratio(x: Tensor) -> Tensor:
        return 1 - width / x.abs().clamp(min=width) if width > 0 else torch.ones_like(x)

    return Activation(lambda x: F.softshrink(x, width), ratio)


def threshold(limit: float, value: float) -> Activation:
    """f(x) = x above the limit, else the value."""
    at_zero = 0.0 if limit < 0 else float(value)
    return _quotient(lambda x: F.threshold(x, limit, value), at_zero, 1.0 if limit < 0 else 0.0)


def clamp(low: float | None, high: float | None) -> Activation:
    """f(x) = min(max(x, low), high): ReLU6 and hardtanh. h rescales what saturates, f' cuts it."""
    least = -math.inf if low is None else float(low)
    most = math.inf if high is None else float(high)
    at_zero = min(max(0.0, least), most)
    # At 0 the ratio is 1 on a straight piece and 0 at a kink or on a flat piece, as ReLU's.
    limit = 1.0 if least < 0 < most else 0.0

    def value(x: Tensor) -> Tensor:
        return torch.clamp(x, least, most)

    if not least <= 0 <= most or least == most:
        return _quotient(value, at_zero, limit)

    def ratio(x: Tensor) -> Tensor:
        if least == 0:
            return _above(_cut(x, most), x)
        if most == 0:
            return _above(_cut(-x, -least), -x)
        return torch.where(x > 0, _cut(x, most), _cut(-x, -least))

    return Activation(value, ratio)


def _cut(x: Tensor, most: float) -> Tensor:
    """Return min(x, most) / x for x > 0, and 1 elsewhere."""
    if math.isinf(most):
        return torch.ones_like(x)
    return x.new_full((), most) / x.clamp(min=most)


def _above(values: Tensor, x: Tensor) -> Tensor:
    """Return `values` where x > 0, else 0."""
    kept: Tensor = torch.ops.aten.threshold_backward(values, x, 0)
    return kept


def _quotient(value: Callable[[Tensor], Tensor], at_zero: float, limit: float) -> Activation:
    """Make an activation of straight pieces, whose ratio at 0 is `limit`."""

    def ratio(x: Tensor) -> Tensor:
        zero = x == 0
        safe = torch.where(zero, torch.ones_like(x), x)
        return torch.where(zero, torch.full_like(x, limit), (value(safe) - at_zero) / safe)

    return Activation(value, ratio, at_zero=at_zero)
