"""The rules of layer-wise relevance propagation, one class a rule (Bach et al., 2015).

Each passes the relevance R_k of a linear layer's outputs z_k = sum_j x_j w_jk + b_k to its inputs.
In the formulas v+ = max(v, 0) and v- = min(v, 0), and 0/0 is 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppi_med.saliency.engine.call import Call
from ppi_med.saliency.lrp.layers import LinearMap


@dataclass(frozen=True)
class LayerState:
    """A linear layer for a rule: its map, and the tensors of one forward pass."""

    map: LinearMap
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    z: Tensor

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's output for another input and weight, without a bias."""
        return self.map.forward(x, weight)

    def back(self, s: Tensor, weight: Tensor) -> Tensor:
        """Return s passed through the transpose of a weight, of the input's shape."""
        return self.map.transpose(s, weight, self.x)

    def positive_part(self) -> Tensor:
        """Return sum_j (x_j w_jk)+."""
        return self._same_signs(self.weight.clamp(min=0), self.weight.clamp(max=0))

    def negative_part(self) -> Tensor:
        """Return sum_j (x_j w_jk)-."""
        return self._same_signs(self.weight.clamp(max=0), self.weight.clamp(min=0))

    def times_input(self, s: Tensor, above: Tensor, below: Tensor) -> Tensor:
        """Return x s passed back, by weight `above` where x > 0 and `below` where x < 0."""
        passed = self.x.clamp(min=0) * self.back(s, above)
        return passed + self.x.clamp(max=0) * self.back(s, below) if self._signed() else passed

    def _same_signs(self, above: Tensor, below: Tensor) -> Tensor:
        out = self.forward(self.x.clamp(min=0), above)
        return out + self.forward(self.x.clamp(max=0), below) if self._signed() else out

    def _signed(self) -> bool:
        # After a ReLU, the usual case, half of the work can be skipped.
        return bool((self.x < 0).any())


class LRPRule(ABC):
    """How relevance passes through a linear layer."""

    def __post_init__(self) -> None:
        for name in ("epsilon", "gamma", "beta", "stabiliser"):
            if not (value := getattr(self, name, 0.0)) >= 0:
                raise ValueError(f"{name} is {value}, expected a number of 0 or more")

    @abstractmethod
    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return the relevance of the layer's inputs from that of its outputs."""


# From a call of a layer, its kind and its weight to its rule.
Choice = Callable[[Call, str, Tensor], LRPRule]


def quotient(r: Tensor, z: Tensor, stabiliser: float) -> Tensor:
    """Return r / (z + stabiliser sign(z)), sign(0) = 1; 0/0 is 0.

    Half precision is computed in single precision: in float16 a stabiliser below 3e-8 would be 0,
    and large values would be infinite.
    """
    dtype = torch.promote_types(r.dtype, z.dtype)
    if dtype in (torch.float16, torch.bfloat16):
        most = torch.finfo(dtype).max
        return quotient(r.float(), z.float(), stabiliser).clamp(-most, most).to(dtype)
    if stabiliser > 0:
        return r / torch.where(z < 0, z - stabiliser, z + stabiliser)
    zero = z == 0
    return torch.where(zero, torch.zeros_like(z), r / torch.where(zero, torch.ones_like(z), z))


@dataclass(frozen=True)
class Epsilon(LRPRule):
    """R_j = sum_k x_j w_jk / (z_k + epsilon sign(z_k)) R_k.

    Args:
        epsilon: absorbs relevance where z is weak or contradictory (default 1e-6).
        bias: leave the bias in z, where it absorbs its share (default True).
    """

    epsilon: float = 1e-6
    bias: bool = True

    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return R_j."""
        z = layer.z
        if layer.bias is not None and not self.bias:
            z = z - layer.map.per_output(layer.bias, z)
        return layer.x * layer.back(quotient(r, z, self.epsilon), layer.weight)


@dataclass(frozen=True)
class Zero(LRPRule):
    """R_j = sum_k x_j w_jk / z_k R_k: the epsilon rule with epsilon = 0.

    Where every layer has it the map is that of WBP.

    Args:
        bias: leave the bias in z, where it absorbs its share (default True).
    """

    bias: bool = True

    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return R_j."""
        return Epsilon(0.0, self.bias).relevance(r, layer)


@dataclass(frozen=True)
class Gamma(LRPRule):
    """R_j = sum_k (x_j w_jk + gamma (x_j w_jk)+) / (z_k + gamma (sum_j (x_j w_jk)+ + b_k+)) R_k.

    This holds for z_k > 0; for z_k < 0 the negative parts replace the positive ones (Andeol et al.,
    2021). With inputs of 0 or more it is the rule of Montavon et al. (2019), w + gamma w+.

    Args:
        gamma: extra weight of contributions that agree with the output (default 0.25).
        stabiliser: see `quotient` (default 1e-9).
        bias: leave the bias in the denominator (default True).
    """

    gamma: float = 0.25
    stabiliser: float = 1e-9
    bias: bool = True

    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return R_j."""
        z, w, gamma = layer.z, layer.weight, self.gamma
        positive, negative = layer.positive_part(), layer.negative_part()
        if layer.bias is not None:
            b = layer.map.per_output(layer.bias, z)
            if self.bias:
                positive, negative = positive + b.clamp(min=0), negative + b.clamp(max=0)
            else:
                z = z - b
        nothing = torch.zeros_like(r)
        for_it = torch.where(
            layer.z > 0, quotient(r, z + gamma * positive, self.stabiliser), nothing
        )
        against = torch.where(
            layer.z < 0, quotient(r, z + gamma * negative, self.stabiliser), nothing
        )
        more, less = w + gamma * w.clamp(min=0), w + gamma * w.clamp(max=0)
        return layer.times_input(for_it, more, less) + layer.times_input(against, less, more)


@dataclass(frozen=True)
class AlphaBeta(LRPRule):
    """R_j = sum_k (alpha (x_j w_jk)+ / z_k+  -  beta (x_j w_jk)- / z_k-) R_k, alpha - beta = 1.

    z+ and z- are the sums of the positive and of the negative contributions, each with its part of
    the bias. `AlphaBeta(1, 0)` is the z+ rule. If an output has no negative contribution, the part
    of beta is lost, and relevance is not conserved.

    Args:
        alpha: weight of what speaks for an output (default 2).
        beta: weight of what speaks against it (default 1).
        stabiliser: see `quotient` (default 1e-9).
        bias: leave the bias in the denominators (default True).

    Raises:
        ValueError: if alpha - beta is not 1.
    """

    alpha: float = 2.0
    beta: float = 1.0
    stabiliser: float = 1e-9
    bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise ValueError(
                f"alpha is {self.alpha} and beta {self.beta}, expected alpha - beta = 1: otherwise "
                "relevance would grow or vanish from layer to layer"
            )

    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return R_j."""
        above, below = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        positive = layer.positive_part()
        bias = None
        if layer.bias is not None and self.bias:
            bias = layer.map.per_output(layer.bias, positive)
            positive = positive + bias.clamp(min=0)
        passed = layer.times_input(
            self.alpha * quotient(r, positive, self.stabiliser), above, below
        )
        if self.beta == 0:
            return passed
        negative = layer.negative_part()
        negative = negative if bias is None else negative + bias.clamp(max=0)
        against = self.beta * quotient(r, negative, self.stabiliser)
        return passed - layer.times_input(against, below, above)


@dataclass(frozen=True)
class WSquare(LRPRule):
    """R_j = sum_k w_jk^2 / sum_j w_jk^2 R_k: for first layers whose input has no bounds.

    Args:
        stabiliser: see `quotient` (default 1e-9).
    """

    stabiliser: float = 1e-9

    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return R_j."""
        return _by_weight(r, layer, layer.weight.square(), self.stabiliser)


@dataclass(frozen=True)
class Flat(LRPRule):
    """R_j = sum_k 1 / n_k R_k: each of the n_k inputs of an output gets the same.

    Args:
        stabiliser: see `quotient` (default 1e-9).
    """

    stabiliser: float = 1e-9

    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return R_j."""
        return _by_weight(r, layer, torch.ones_like(layer.weight), self.stabiliser)


@dataclass(frozen=True)
class ZBeta(LRPRule):
    """R_j = sum_k (x_j w_jk - l_j w_jk+ - h_j w_jk-) / sum_j (...) R_k, for inputs in [l, h].

    For the first layer; also called z^B or box rule (Montavon et al., 2017).

    Args:
        low: least value that an input can have, one number or one per channel.
        high: largest value, likewise.
        stabiliser: see `quotient` (default 1e-9).

    Raises:
        ValueError: if a least value is above the largest.
    """

    low: float | Sequence[float] = 0.0
    high: float | Sequence[float] = 1.0
    stabiliser: float = 1e-9

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool((torch.as_tensor(self.low) > torch.as_tensor(self.high)).any()):
            raise ValueError(f"low is {self.low} and high {self.high}, expected low <= high")

    def relevance(self, r: Tensor, layer: LayerState) -> Tensor:
        """Return R_j."""
        w, one = layer.weight, layer.x[:1].detach()
        above, below = w.clamp(min=0), w.clamp(max=0)
        low, high = (layer.map.per_input(bound, one) for bound in (self.low, self.high))
        total = layer.forward(layer.x, w)
        total = total - layer.forward(low, above) - layer.forward(high, below)
        s = quotient(r, total, self.stabiliser)
        return layer.x * layer.back(s, w) - low * layer.back(s, above) - high * layer.back(s, below)


def _by_weight(r: Tensor, layer: LayerState, weight: Tensor, stabiliser: float) -> Tensor:
    # One sample of ones serves the whole batch.
    share = layer.forward(torch.ones_like(layer.x[:1]), weight)
    return layer.back(quotient(r, share.expand_as(r), stabiliser), weight)
