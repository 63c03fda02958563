"""Table 1 written out: each layer's value, and how it passes the weights W back.

Slow and plain on purpose, without autograd. ``forward`` keeps what ``back`` needs; ``back`` takes
the weights of the layer's output and returns those of its input.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.saliency import slow_activations as slow

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Layer:
    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def back(self, w: Tensor) -> Tensor:
        raise NotImplementedError


def relevance(layers: Sequence[Layer], x: Tensor, weights: Callable[[Tensor], Tensor]) -> Tensor:
    """Return s = x * W_0 after passing ``weights(output)`` back through the layers."""
    with torch.no_grad():
        value = x
        for layer in layers:
            value = layer.forward(value)
        w = weights(value)
        for layer in reversed(layers):
            w = layer.back(w)
        return x * w


class Linear(Layer):
    def __init__(self, module: nn.Linear) -> None:
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("...i,oi->...o", x, self.module.weight)
        return y if self.module.bias is None else y + self.module.bias

    def back(self, w: Tensor) -> Tensor:
        return torch.einsum("...o,oi->...i", w, self.module.weight)


class Conv(Layer):
    """A convolution passes W back by its transposed convolution."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.dims = module.weight.ndim - 2

    def forward(self, x: Tensor) -> Tensor:
        m = self.module
        self.size = x.shape[2:]
        return _CONV[self.dims](x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)

    def back(self, w: Tensor) -> Tensor:
        m = self.module
        rest = [
            size - ((out - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
            for size, out, stride, padding, dilation, kernel in zip(
                self.size, w.shape[2:], m.stride, m.padding, m.dilation, m.kernel_size, strict=True
            )
        ]
        # What is left over at the far edge was seen by no window.
        fits = [min(r, max(s, d) - 1) for r, s, d in zip(rest, m.stride, m.dilation, strict=True)]
        back = _CONV_TRANSPOSE[self.dims](
            w, m.weight, None, m.stride, m.padding, fits, m.groups, m.dilation
        )
        over = [r - f for r, f in zip(rest, fits, strict=True)]
        return F.pad(back, [p for o in reversed(over) for p in (0, o)])


class ConvTranspose(Layer):
    """A transposed convolution passes W back by its convolution."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.dims = module.weight.ndim - 2

    def forward(self, x: Tensor) -> Tensor:
        m = self.module
        return _CONV_TRANSPOSE[self.dims](
            x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation
        )

    def back(self, w: Tensor) -> Tensor:
        m = self.module
        return _CONV[self.dims](w, m.weight, None, m.stride, m.padding, m.dilation, m.groups)


class AnyLinear(Layer):
    """A map f(x) = A x + c; A is written down column by column."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        self.shape = x.shape
        y = self.function(x)
        zero = self.function(torch.zeros_like(x[:1]))
        columns = []
        for i in range(x[0].numel()):
            unit = torch.zeros_like(x[:1])
            unit.view(-1)[i] = 1
            columns.append((self.function(unit) - zero).flatten())
        self.matrix = torch.stack(columns, 1)
        return y

    def back(self, w: Tensor) -> Tensor:
        return (w.flatten(1) @ self.matrix).view(self.shape)


class Activation(Layer):
    """W * h(x), h(x) = (f(x) - f(0)) / x."""

    def __init__(self, formula: slow.Formula, limit: float = 1.0) -> None:
        self.formula, self.limit = formula, limit

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return slow.apply(self.formula, x)

    def back(self, w: Tensor) -> Tensor:
        return w * slow.ratio(self.formula, self.x, self.limit)


class ReLU(Layer):
    def forward(self, x: Tensor) -> Tensor:
        self.active = x > 0
        return x * self.active

    def back(self, w: Tensor) -> Tensor:
        return w * self.active


class PReLU(Layer):
    def __init__(self, module: nn.PReLU) -> None:
        self.slope = module.weight

    def forward(self, x: Tensor) -> Tensor:
        slope = self.slope.view(1, -1, *([1] * (x.ndim - 2))).expand_as(x)
        self.h = torch.where(x > 0, torch.ones_like(x), slope)
        return x * self.h

    def back(self, w: Tensor) -> Tensor:
        return w * self.h


Windows = Callable[[int, int], list[list[int]]]


def sliding(kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> Windows:
    """Windows of one axis, as lists of positions inside the image, for its sizes in and out."""

    def windows(size: int, out: int) -> list[list[int]]:
        starts = [i * stride - padding for i in range(out)]
        return [
            [p for p in range(s, s + kernel * dilation, dilation) if 0 <= p < size] for s in starts
        ]

    return windows


def adaptive(size: int, out: int) -> list[list[int]]:
    return [list(range(i * size // out, -(-(i + 1) * size // out))) for i in range(out)]


class MaxPool(Layer):
    """W goes to the place that won."""

    def __init__(self, windows: Windows, pool: Callable[[Tensor], Tensor]) -> None:
        self.windows, self.pool = windows, pool

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return self.pool(x)

    def back(self, w: Tensor) -> Tensor:
        x, passed = self.x, torch.zeros_like(self.x)
        axes = [self.windows(size, out) for size, out in zip(x.shape[2:], w.shape[2:], strict=True)]
        for n, c in itertools.product(*map(range, x.shape[:2])):
            for place in itertools.product(*map(range, w.shape[2:])):
                window = itertools.product(*(axes[d][i] for d, i in enumerate(place)))
                winner = max(window, key=lambda p: float(x[(n, c, *p)]))
                passed[(n, c, *winner)] += w[(n, c, *place)]
        return passed


class AvgPool(Layer):
    """W spread evenly over each window."""

    def __init__(self, windows: Windows, pool: Callable[[Tensor], Tensor], area: int = 0) -> None:
        self.windows, self.pool, self.area = windows, pool, area

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return self.pool(x)

    def back(self, w: Tensor) -> Tensor:
        passed = torch.zeros_like(self.x)
        axes = [
            self.windows(size, out) for size, out in zip(self.x.shape[2:], w.shape[2:], strict=True)
        ]
        for place in itertools.product(*map(range, w.shape[2:])):
            window = list(itertools.product(*(axes[d][i] for d, i in enumerate(place))))
            for p in window:
                index = (slice(None), slice(None))
                passed[(*index, *p)] += w[(*index, *place)] / (self.area or len(window))
        return passed


class Fixed(Layer):
    """y = x * mask, the mask given: dropout."""

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        self.make = mask

    def forward(self, x: Tensor) -> Tensor:
        self.mask = self.make(x)
        return x * self.mask

    def back(self, w: Tensor) -> Tensor:
        return w * self.mask


class Gate(Layer):
    """y = x * g(x): the gate is the h of what it multiplies."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        self.value = self.gate(x)
        return x * self.value

    def back(self, w: Tensor) -> Tensor:
        return w * self.value


class Chain(Layer):
    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def back(self, w: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            w = layer.back(w)
        return w


class Sum(Layer):
    """Branches added; a residual is ``Sum(Chain(), branch)``."""

    def __init__(self, *branches: Layer) -> None:
        self.branches = branches

    def forward(self, x: Tensor) -> Tensor:
        return sum((branch.forward(x) for branch in self.branches), torch.zeros(()).double())

    def back(self, w: Tensor) -> Tensor:
        return sum((branch.back(w) for branch in self.branches), torch.zeros(()).double())


class Concatenation(Layer):
    """Branches put side by side along the channels."""

    def __init__(self, *branches: Layer) -> None:
        self.branches = branches

    def forward(self, x: Tensor) -> Tensor:
        values = [branch.forward(x) for branch in self.branches]
        self.channels = [value.shape[1] for value in values]
        return torch.cat(values, 1)

    def back(self, w: Tensor) -> Tensor:
        parts = w.split(self.channels, 1)
        return sum(
            (branch.back(part) for branch, part in zip(self.branches, parts, strict=True)),
            torch.zeros(()).double(),
        )
