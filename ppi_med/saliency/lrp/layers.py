"""The linear layers of LRP's rules, alone and with a BatchNorm directly after."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.saliency.engine.call import Call

LINEAR = "linear"
CONVOLUTION = "convolution"
KINDS = (LINEAR, CONVOLUTION)
_CONVOLUTIONS = {
    f"conv{kind}{d}d": (d, bool(kind)) for kind in ("", "_transpose") for d in (1, 2, 3)
}
LAYERS = frozenset({"linear", *_CONVOLUTIONS})


class LinearMap(ABC):
    """A linear map of x by a weight, without a bias."""

    kind: str

    @abstractmethod
    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the output."""

    @abstractmethod
    def transpose(self, s: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """Return s, of the output's shape, passed back to the shape of the input `like`."""

    @abstractmethod
    def scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Return the weight with each output's part times `scale`, `(C_out,)`."""

    @abstractmethod
    def per_output(self, values: Tensor, out: Tensor) -> Tensor:
        """Return one value for each output channel, shaped to add to `out`."""

    @abstractmethod
    def per_input(self, values: float | Sequence[float], one: Tensor) -> Tensor:
        """Return one value, or one for each input channel, of the shape of `one`."""


class Dense(LinearMap):
    """`F.linear`."""

    kind = LINEAR

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return x W^T."""
        return F.linear(x, weight)

    def transpose(self, s: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """Return s W."""
        return s @ weight

    def scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Return the weight with each row scaled."""
        return weight * scale.unsqueeze(1)

    def per_output(self, values: Tensor, out: Tensor) -> Tensor:
        """Return the values: features are the last axis."""
        return values

    def per_input(self, values: float | Sequence[float], one: Tensor) -> Tensor:
        """Return the values along the last axis."""
        return torch.as_tensor(values, dtype=one.dtype, device=one.device).expand_as(one)


@dataclass(frozen=True)
class Convolution(LinearMap):
    """A convolution, or a transposed one, in one to three dimensions.

    `further` is padding in the form of `F.pad`, if the two sides differ.
    """

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int
    further: tuple[int, ...] = ()
    kind = CONVOLUTION

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution."""
        x = F.pad(x, self.further) if self.further else x
        out: Tensor = torch.ops.aten.convolution(x, weight, None, *self._options())
        return out

    def transpose(self, s: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """Return the convolution's derivative by its input, applied to s."""
        options = self._options()
        like = F.pad(like, self.further) if self.further else like
        passed: Tensor = torch.ops.aten.convolution_backward(
            s.contiguous(), like, weight, None, *options, [True, False, False]
        )[0]
        return F.pad(passed, [-n for n in self.further]) if self.further else passed

    def scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Return the weight with each output channel scaled."""
        spatial = [1] * (weight.ndim - 2)
        if not self.transposed:
            return weight * scale.view(-1, 1, *spatial)
        # The weight of a transposed convolution is (in, out / groups, ...).
        grouped = weight.unflatten(0, (self.groups, -1))
        scaled: Tensor = grouped * scale.view(self.groups, 1, -1, *spatial)
        return scaled.flatten(0, 1)

    def per_output(self, values: Tensor, out: Tensor) -> Tensor:
        """Return the values along axis 1."""
        return values.view(1, -1, *([1] * (out.ndim - 2)))

    def per_input(self, values: float | Sequence[float], one: Tensor) -> Tensor:
        """Return the values along axis 1."""
        value = torch.as_tensor(values, dtype=one.dtype, device=one.device)
        if value.ndim:
            value = value.view(1, -1, *([1] * (one.ndim - 2)))
        return value.expand_as(one)

    def _options(self) -> tuple[Any, ...]:
        return (
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )


def linear_map(call: Call) -> LinearMap:
    """Return the map of a call of a layer."""
    if call.name == "linear":
        return Dense()
    d, transposed = _CONVOLUTIONS[call.name]
    stride, asked = _each(call.argument(3, "stride", 1), d), call.argument(4, "padding", 0)
    if transposed:
        output_padding = _each(call.argument(5, "output_padding", 0), d)
        groups = call.argument(6, "groups", 1)
        dilation = _each(call.argument(7, "dilation", 1), d)
        return Convolution(stride, _each(asked, d), dilation, True, output_padding, groups)
    dilation, groups = _each(call.argument(5, "dilation", 1), d), call.argument(6, "groups", 1)
    further: tuple[int, ...] = ()
    if asked == "same":
        size = call.argument(1, "weight").shape[2:]
        total = [step * (n - 1) for step, n in zip(dilation, size, strict=True)]
        asked = [n // 2 for n in total]
        if any(n % 2 for n in total):  # the larger half is at the end
            further = tuple(side for n in reversed(total) for side in (0, n % 2))
    padding = [0] * d if asked == "valid" else _each(asked, d)
    return Convolution(stride, padding, dilation, False, [0] * d, groups, further)


def _each(value: int | Sequence[int], d: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * d if len(values) == 1 else values


NamedRelevance = Callable[[Tensor, dict[str, Tensor]], Tensor]


def merged_relevance(layer: LinearMap, eps: float, relevance: NamedRelevance) -> NamedRelevance:
    """Return the relevance rule of a layer with its BatchNorm, s = gamma / sigma.

    Args:
        layer: the map of the layer.
        eps: epsilon of the BatchNorm.
        relevance: the rule of a layer, by tensors `x`, `weight`, `bias`, `z`.

    Returns:
        The rule by the same tensors and `gamma`, `beta`, and either `mean` and `variance`
        or, for batch statistics, the BatchNorm's `inputs`. Statistics are constants to the rule.
    """

    def merged(r: Tensor, named: dict[str, Tensor]) -> Tensor:
        if "inputs" in named:
            x = named["inputs"]
            wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            variance, mean = torch.var_mean(wide, [0, *range(2, x.ndim)], correction=0)
        else:
            mean, variance = named["mean"], named["variance"]
        scale = (variance + eps).rsqrt()
        scale = scale if "gamma" not in named else scale * named["gamma"]
        shift = -mean if "bias" not in named else named["bias"] - mean
        shift = shift * scale if "beta" not in named else shift * scale + named["beta"]
        weight = named["weight"]
        return relevance(
            r,
            {
                "x": named["x"],
                "weight": layer.scaled(weight, scale.to(weight.dtype)),
                "bias": shift.to(weight.dtype),
                "z": named["z"],
            },
        )

    return merged
