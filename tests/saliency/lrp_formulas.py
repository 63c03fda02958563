"""LRP in a slow and simple way: every layer as a matrix, every formula over its entries.

One image at a time, in float64. ``Step`` is a layer: an affine map with one of the formulas below,
an activation, or a pooling that picks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# From R_k, x_j, w_jk (j, k) and b_k to R_j.
Formula = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def over(a: Tensor, b: Tensor, e: float = 0.0) -> Tensor:
    """Divide entry by entry; 0 where both are 0."""
    out = torch.zeros_like(a)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in a.shape)).tolist():
        index = tuple(index) if isinstance(index, list) else (index,)
        below = b[index] + (e if b[index] >= 0 else -e)
        out[index] = 0.0 if below == 0 else a[index] / below
    return out


def epsilon(e: float, bias: bool = True) -> Formula:
    def formula(r: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        z = x @ w + (b if bias else 0 * b)
        return (x[:, None] * w) @ over(r, z, e)

    return formula


def gamma(g: float, e: float = 1e-9) -> Formula:
    def formula(r: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        c = x[:, None] * w
        passed = torch.zeros_like(x)
        for k in range(len(b)):
            z = c[:, k].sum() + b[k]
            if z == 0:
                continue
            part = c[:, k].clamp(min=0) if z > 0 else c[:, k].clamp(max=0)
            bias = b[k].clamp(min=0) if z > 0 else b[k].clamp(max=0)
            top = c[:, k] + g * part
            passed += top * over(r[k : k + 1], (top.sum() + b[k] + g * bias)[None], e)
        return passed

    return formula


def alpha_beta(alpha: float, beta: float, e: float = 1e-9) -> Formula:
    def formula(r: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        c = x[:, None] * w
        up, down = c.clamp(min=0), c.clamp(max=0)
        positive, negative = up.sum(0) + b.clamp(min=0), down.sum(0) + b.clamp(max=0)
        return alpha * (up @ over(r, positive, e)) - beta * (down @ over(r, negative, e))

    return formula


def w_square(e: float = 1e-9) -> Formula:
    def formula(r: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return (w**2) @ over(r, (w**2).sum(0), e)

    return formula


def flat(e: float = 1e-9) -> Formula:
    def formula(r: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        connected = (w != 0).double()
        return connected @ over(r, connected.sum(0), e)

    return formula


def z_beta(low: Tensor, high: Tensor, e: float = 1e-9) -> Formula:
    """``low`` and ``high`` are vectors, one entry an input."""

    def formula(r: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        top = x[:, None] * w - low[:, None] * w.clamp(min=0) - high[:, None] * w.clamp(max=0)
        return top @ over(r, top.sum(0), e)

    return formula


@dataclass
class Step:
    """A layer on one image: ``run`` and what it does to relevance.

    With a formula it is an affine map; without one, R passes as ``passes(R, x)`` says.
    """

    run: Callable[[Tensor], Tensor]
    formula: Formula | None = None
    passes: Callable[[Tensor, Tensor], Tensor] = staticmethod(lambda r, x: r)

    def back(self, r: Tensor, x: Tensor) -> Tensor:
        if self.formula is None:
            return self.passes(r, x)
        w, b = as_matrix(self.run, x)
        return self.formula(r.flatten(), x.flatten(), w, b).view(x.shape)


def as_matrix(run: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return w (j, k) and b (k) of an affine map, one unit vector after another."""
    b = run(torch.zeros_like(x)).flatten()
    rows = []
    for j in range(x.numel()):
        unit = torch.zeros(x.numel(), dtype=x.dtype)
        unit[j] = 1
        rows.append(run(unit.view(x.shape)).flatten() - b)
    return torch.stack(rows), b


def to_the_winner(run: Callable[[Tensor], Tensor]) -> Step:
    """Max pooling: R goes to the position that won."""

    def passes(r: Tensor, x: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        (passed,) = torch.autograd.grad(run(leaf), leaf, r)
        return passed

    return Step(run, passes=passes)


@torch.no_grad()
def relevance(steps: list[Step], image: Tensor, target: int) -> Tensor:
    """Return R of one image ``(1, C, *spatial)`` for one class."""
    values = [image]
    for step in steps:
        values.append(step.run(values[-1]))
    r: Any = torch.zeros_like(values[-1])
    r[0, target] = values[-1][0, target]
    for step, x in zip(reversed(steps), reversed(values[:-1]), strict=True):
        with torch.enable_grad():
            r = step.back(r, x).detach()
    return r
