"""Table 1 for norms and attention, written out: see recursion.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.saliency.recursion import Layer


class BatchNorm(Layer):
    """gamma / sigma, of the batch or of the running statistics."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        m = self.module
        batch = m.training or m.running_mean is None
        scale, y = torch.zeros_like(x), torch.zeros_like(x)
        for c in range(x.shape[1]):
            values = x[:, c].flatten()
            mean = values.sum() / len(values) if batch else m.running_mean[c]
            square = ((values - mean) ** 2).sum() / len(values) if batch else m.running_var[c]
            gamma = 1.0 if m.weight is None else m.weight[c]
            beta = 0.0 if m.bias is None else m.bias[c]
            scale[:, c] = gamma / torch.sqrt(square + m.eps)
            y[:, c] = (x[:, c] - mean) * scale[:, c] + beta
        self.scale = scale
        return y

    def back(self, w: Tensor) -> Tensor:
        return w * self.scale


class GroupedNorm(Layer):
    """Layer-, Group- and InstanceNorm: 1/sigma a constant, subtracting the mean linear.

    Args:
        groups: from the shape of a sample to lists of indices, one list a group.
        gamma: weights, of a sample's shape.
        beta: biases, of a sample's shape.
    """

    def __init__(
        self,
        groups: Callable[[torch.Size], list[list[int]]],
        gamma: Callable[[torch.Size], Tensor],
        beta: Callable[[torch.Size], Tensor],
        eps: float,
        centre: bool = True,
    ) -> None:
        self.groups, self.gamma, self.beta = groups, gamma, beta
        self.eps, self.centre = eps, centre

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        flat = x.flatten(1)
        y, self.inverse = torch.zeros_like(flat), torch.zeros_like(flat)
        for n, group in itertools.product(range(len(x)), self.groups(x.shape[1:])):
            values = flat[n, group]
            centred = values - values.sum() / len(group) if self.centre else values
            self.inverse[n, group] = 1 / torch.sqrt((centred**2).sum() / len(group) + self.eps)
            y[n, group] = centred * self.inverse[n, group]
        return y.view_as(x) * self.gamma(x.shape[1:]) + self.beta(x.shape[1:])

    def back(self, w: Tensor) -> Tensor:
        w = (w * self.gamma(w.shape[1:])).flatten(1)
        passed = torch.zeros_like(w)
        for n, group in itertools.product(range(len(w)), self.groups(self.x.shape[1:])):
            scaled = w[n, group] * self.inverse[n, group]
            passed[n, group] = scaled - scaled.sum() / len(group) if self.centre else scaled
        return passed.view_as(self.x)


class Attention(Layer):
    """Multi-head self-attention ``(N, L, E)``: the softmax is a gate on the values.

    Args:
        project: weights and biases (q, k, v), each ``(E, E)`` and ``(E,)``.
        out: weight and bias of the output.
        heads: number of heads.
        mask: added to the logits ``(N, heads, L, L)``; -inf takes a pair out.
    """

    def __init__(
        self,
        project: Sequence[tuple[Tensor, Tensor]],
        out: tuple[Tensor, Tensor],
        heads: int,
        mask: Tensor | None = None,
    ) -> None:
        self.project, self.out, self.heads, self.mask = project, out, heads, mask

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (x @ weight.T + bias for weight, bias in self.project)
        size = x.shape[2] // self.heads
        self.weights = torch.zeros(len(x), self.heads, x.shape[1], x.shape[1]).double()
        mixed = torch.zeros_like(x)
        for n, h in itertools.product(range(len(x)), range(self.heads)):
            part = slice(h * size, (h + 1) * size)
            logits = q[n, :, part] @ k[n, :, part].T / math.sqrt(size)
            if self.mask is not None:
                logits = logits + self.mask[n, h]
            exponents = torch.exp(logits - logits.max(1, keepdim=True).values)
            self.weights[n, h] = exponents / exponents.sum(1, keepdim=True)
            mixed[n, :, part] = self.weights[n, h] @ v[n, :, part]
        return mixed @ self.out[0].T + self.out[1]

    def back(self, w: Tensor) -> Tensor:
        w = w @ self.out[0]
        size = w.shape[2] // self.heads
        values = torch.zeros_like(w)
        for n, h in itertools.product(range(len(w)), range(self.heads)):
            part = slice(h * size, (h + 1) * size)
            values[n, :, part] = self.weights[n, h].T @ w[n, :, part]
        return values @ self.project[2][0]
