"""Activations f with their ratio h(x) = (f(x) - f(0)) / x in closed form (Table 1).

ReLU, LeakyReLU and PReLU are not here: for them h is the derivative, and autograd is the rule.
Where a ratio of the form 0/0 appears, a Taylor series serves near 0, so that the ratio and its
derivative keep full precision (|x| < 0.05: truncation below 1e-13).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_NEAR = 0.05


def _with_series(x: Tensor, series: Sequence[float], far: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``far(x)``, and near 0 the polynomial with these coefficients, lowest first."""
    near = x.abs() < _NEAR
    # `where` alone would let far's 0/0 into the derivative: keep its input away from 0 too.
    safe, small = torch.where(near, torch.ones_like(x), x), torch.where(near, x, 0.0)
    polynomial = torch.full_like(x, series[-1])
    for coefficient in reversed(series[:-1]):
        polynomial = polynomial * small + coefficient
    return torch.where(near, polynomial, far(safe))


class _Formula(ABC):
    """Shared part: f(0) = 0, and the derivative by autograd of the value."""

    at_zero: float = 0.0

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """Return f(x)."""

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            leaf = x if recorded and x.requires_grad else x.detach().requires_grad_()
            (out,) = torch.autograd.grad(self.value(leaf), leaf, grad, create_graph=recorded)
        return out


class SiLU(_Formula):
    """f(x) = x sigmoid(x); h = sigmoid(x)."""

    def value(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def ratio(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        return torch.ops.aten.silu_backward(grad, x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class GELU(_Formula):
    """f(x) = x Phi(x); h = Phi(x), exact or by the tanh approximation."""

    approximate: str = "none"

    def value(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)

    def ratio(self, x: Tensor) -> Tensor:
        if self.approximate == "none":
            return 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        return torch.ops.aten.gelu_backward(  # type: ignore[no-any-return]
            grad, x, approximate=self.approximate
        )


class Mish(_Formula):
    """f(x) = x tanh(softplus(x)); h = tanh(softplus(x))."""

    def value(self, x: Tensor) -> Tensor:
        return F.mish(x)

    def ratio(self, x: Tensor) -> Tensor:
        return torch.tanh(F.softplus(x))


class Hardswish(_Formula):
    """f(x) = x relu6(x + 3) / 6; h = relu6(x + 3) / 6."""

    def value(self, x: Tensor) -> Tensor:
        return F.hardswish(x)

    def ratio(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        return torch.ops.aten.hardswish_backward(grad, x)  # type: ignore[no-any-return]


_EXPM1_OVER_X = [1 / math.factorial(k + 1) for k in range(10)]
_TANH_OVER_X = [1, 0, -1 / 3, 0, 2 / 15, 0, -17 / 315, 0, 62 / 2835, 0, -1382 / 155925]
_LOGCOSH_HALF_OVER_X = [0, 1 / 8, 0, -1 / 192, 0, 1 / 2880, 0, -17 / 645120, 0, 31 / 14515200]


@dataclass(frozen=True)
class ELU(_Formula):
    """f(x) = scale x, below 0 scale alpha (exp(rate x) - 1): ELU, CELU (rate 1/alpha), SELU."""

    alpha: float = 1.0
    scale: float = 1.0
    rate: float = 1.0

    def value(self, x: Tensor) -> Tensor:
        return torch.ops.aten.elu(  # type: ignore[no-any-return]
            x, self.alpha, self.scale, self.rate
        )

    def ratio(self, x: Tensor) -> Tensor:
        below = torch.clamp(x, max=0.0) * self.rate
        slope = _with_series(below, _EXPM1_OVER_X, lambda z: torch.expm1(z) / z)
        return self.scale * torch.where(x > 0, torch.ones_like(x), self.alpha * self.rate * slope)


class Tanh(_Formula):
    """f(x) = tanh(x); h = tanh(x) / x."""

    def value(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def ratio(self, x: Tensor) -> Tensor:
        return _with_series(x, _TANH_OVER_X, lambda z: torch.tanh(z) / z)


class Sigmoid(_Formula):
    """f(x) = sigmoid(x), f(0) = 1/2; h = tanh(x/2) / (2x)."""

    at_zero = 0.5

    def value(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def ratio(self, x: Tensor) -> Tensor:
        return _with_series(0.5 * x, _TANH_OVER_X, lambda z: torch.tanh(z) / z) * 0.25


@dataclass(frozen=True)
class Softplus(_Formula):
    """f(x) = log(1 + exp(beta x)) / beta, f(0) = log(2) / beta; h = 1/2 + log cosh(z/2) / z."""

    beta: float = 1.0
    threshold: float = 20.0

    @property
    def at_zero(self) -> float:  # type: ignore[override]
        """Return f(0)."""
        return math.log(2) / self.beta

    def value(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)

    def ratio(self, x: Tensor) -> Tensor:
        def far(z: Tensor) -> Tensor:
            linear = z > self.threshold
            return (torch.where(linear, z, F.softplus(z)) - math.log(2)) / z - 0.5

        return 0.5 + _with_series(self.beta * x, _LOGCOSH_HALF_OVER_X, far)


class Clamp(_Formula):
    """f(x) = min(max(x, low), high): ReLU6 and hardtanh. h rescales what saturates, f' cuts it."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low = -math.inf if low is None else float(low)
        self.high = math.inf if high is None else float(high)
        self.at_zero = min(max(0.0, self.low), self.high)

    def value(self, x: Tensor) -> Tensor:
        return torch.clamp(x, self.low, self.high)

    def ratio(self, x: Tensor) -> Tensor:
        # At 0 the ratio is 1 on a straight piece and 0 at a kink or on a flat piece, as ReLU's.
        limit = 1.0 if self.low < 0 < self.high else 0.0
        zero = x == 0
        safe = torch.where(zero, torch.ones_like(x), x)
        far = (self.value(safe) - self.at_zero) / safe
        return torch.where(zero, torch.full_like(x, limit), far)


class Hardsigmoid(_Formula):
    """f(x) = relu6(x + 3) / 6, f(0) = 1/2; h = 1/6 on the slope, (f - 1/2) / x beside it."""

    at_zero = 0.5

    def value(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)

    def ratio(self, x: Tensor) -> Tensor:
        return 0.5 / x.abs().clamp(min=3.0)


class Softsign(_Formula):
    """f(x) = x / (1 + |x|); h = 1 / (1 + |x|)."""

    def value(self, x: Tensor) -> Tensor:
        return F.softsign(x)

    def ratio(self, x: Tensor) -> Tensor:
        return 1 / (1 + x.abs())
