"""Masks T(s) that say which content is removed (Table 5).

Every mask takes maps `(N, 1, *spatial)` (see `SaliencyToMap`) and returns `(N, 1, *spatial)` in
[0, 1], one per image, in float32 or float64; 1 = removed. A map of zeros, where nothing is
explained, gives an empty mask with gradient 0. Rounding never makes a mask empty or full: a
constant map has no point above its mean plus k std.

`SoftMask` and `AdaptiveMask` are differentiable in the map. `HardMask`, `BoxMask` and `TopKMask`
are steps, whose gradient is zero almost everywhere; as in the paper there is no surrogate gradient
(no straight-through): with them L_con and L_ad train the network through the altered image only,
and a map without graph is enough.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ppi_med.intervention.numeric import (
    at_least_float32,
    check_map,
    choose,
    image_dims,
    no_autocast,
    plain,
    std_per_image,
)


class Mask(ABC):
    """A rule that makes masks `(N, 1, *spatial)` in [0, 1] from maps of the same shape."""

    @property
    @abstractmethod
    def differentiable(self) -> bool:
        """Whether the mask has a gradient in the map (if not, a map without graph is enough)."""

    @abstractmethod
    def cut(self, saliency_map: Tensor) -> Tensor:
        """Return the mask of maps that have been checked and are in float32 or float64."""

    def __call__(self, saliency_map: Tensor) -> Tensor:
        """Return the masks of maps `(N, 1, *spatial)`.

        Raises:
            TypeError: the map is not floating.
            ValueError: it is not `(N, 1, *spatial)`.
        """
        check_map(saliency_map)
        saliency_map = at_least_float32(plain(saliency_map))
        with no_autocast(saliency_map):
            mask = self.cut(saliency_map)
            nothing = saliency_map.amax(image_dims(saliency_map), keepdim=True) == 0
            return torch.where(nothing, torch.zeros_like(mask), mask)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that an exact resume needs; empty for most.

        Its entries have the same names at all times.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (nothing to load)
        """Restore `state_dict()`."""

    def separate(self, rank: int) -> None:  # noqa: B027 (most draw nothing)
        """Give one of several processes its own draws; the first, 0, keeps its draws."""


class SoftMask(Mask):
    """T(s) = 1 / (1 + exp(-omega (s - sigma))), differentiable (Appendix B, Table 5).

    Args:
        sigma: the threshold, in units of the normalised map (default 0.25).
        omega: the slope (default 100).

    Examples:
        >>> SoftMask()(torch.tensor([[[0.0, 0.25, 1.0]]])).round(decimals=3)
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """

    differentiable = True

    def __init__(self, sigma: float = 0.25, omega: float = 100.0) -> None:
        self.sigma = _finite("sigma", sigma)
        self.omega = _positive("omega", omega)

    def cut(self, saliency_map: Tensor) -> Tensor:
        """Apply the formula."""
        return torch.sigmoid(self.omega * (saliency_map - self.sigma))


class AdaptiveMask(Mask):
    """T(s) = 1 / (1 + exp(-omega (s - t))) with t = mean + k std of the image (Table 5).

    Differentiable, through the threshold as well. A constant map gives an empty mask.

    Args:
        k: how many standard deviations above the mean (default 2.5).
        omega: the slope (default 100).
        units: `map` (default): omega is per unit of the map, as in `SoftMask`; `std`: per standard
            deviation of the image, so that the mask doesn't change when the map is rescaled.

    Examples:
        >>> AdaptiveMask(k=1.0)(torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])).round(decimals=3)
        tensor([[[0., 0., 0., 1.]]])
    """

    differentiable = True

    def __init__(self, k: float = 2.5, omega: float = 100.0, units: str = "map") -> None:
        self.k = _finite("k", k)
        self.omega = _positive("omega", omega)
        self.units = choose("units", units, ("map", "std"))

    def cut(self, saliency_map: Tensor) -> Tensor:
        """Apply the formula with the threshold of each image."""
        std = std_per_image(saliency_map)
        flat = std == 0
        mean = saliency_map.mean(image_dims(saliency_map), keepdim=True)
        height = saliency_map - mean - self.k * std
        if self.units == "std":
            height = height / torch.where(flat, torch.ones_like(std), std)
        mask = torch.sigmoid(self.omega * height)
        return torch.where(flat, torch.zeros_like(mask), mask)


class HardMask(Mask):
    """1 where s > k std of the image, else 0 (Table 5). Gradient zero.

    A constant map gives an empty mask.

    Args:
        k: how many standard deviations (default 7).
        above: `zero` (default): the threshold is k std; `mean`: it is mean + k std.

    Examples:
        >>> HardMask(k=2.0)(torch.tensor([[[0.1, 0.0, 0.0, 1.0]]]))
        tensor([[[0., 0., 0., 1.]]])
    """

    differentiable = False

    def __init__(self, k: float = 7.0, above: str = "zero") -> None:
        self.k = _finite("k", k)
        self.above = choose("above", above, ("zero", "mean"))

    def cut(self, saliency_map: Tensor) -> Tensor:
        """Compare with the threshold of each image."""
        saliency_map = saliency_map.detach()
        std = std_per_image(saliency_map)
        threshold = self.k * std
        if self.above == "mean":
            threshold = threshold + saliency_map.mean(image_dims(saliency_map), keepdim=True)
        return ((saliency_map > threshold) & (std > 0)).to(saliency_map.dtype)


class BoxMask(Mask):
    """1 in the box centre of mass +- k std along each spatial axis (Table 5). Gradient zero.

    The map is the mass; the standard deviations are those of its coordinates along each axis, in
    pixels. The half side is at least half a pixel: a single bright point gives one pixel.

    Args:
        k: half side of the box in standard deviations (default 1.2).

    Examples:
        >>> BoxMask()(torch.tensor([[[0.0, 0.0, 1.0, 1.0, 0.0]]]))
        tensor([[[0., 0., 1., 1., 0.]]])
    """

    differentiable = False

    def __init__(self, k: float = 1.2) -> None:
        self.k = _positive("k", k)

    def cut(self, saliency_map: Tensor) -> Tensor:
        """Multiply the intervals of all axes."""
        mass = saliency_map.detach()
        box = torch.ones_like(mass)
        for axis in range(2, mass.dim()):
            box = box * self._interval(mass, axis)
        return box

    def _interval(self, mass: Tensor, axis: int) -> Tensor:
        """Return 1 inside the interval of one axis, `(N, 1, .., L, .., 1)`."""
        others = tuple(d for d in range(1, mass.dim()) if d != axis)
        line = mass.sum(others, keepdim=True) if others else mass
        total = line.sum(axis, keepdim=True)
        line = line / torch.where(total == 0, torch.ones_like(total), total)
        shape = [1] * mass.dim()
        shape[axis] = -1
        place = torch.arange(mass.shape[axis], device=mass.device, dtype=mass.dtype).view(shape)
        centre = (line * place).sum(axis, keepdim=True)
        std = (line * (place - centre).square()).sum(axis, keepdim=True).sqrt()
        # The margin over half a pixel keeps a point whose centre is off by rounding.
        return ((place - centre).abs() <= (self.k * std).clamp(min=0.501)).to(mass.dtype)


class TopKMask(Mask):
    """1 on the k highest points of the image, else 0 (the masks used on CUB). Gradient zero.

    Points where the map is 0 are never taken, so a sparse map can give fewer than k. Among equal
    values the choice is that of `torch.topk`. Unlike a threshold it is never empty on a flat map.

    Args:
        k: number of points (default 1000).
        fraction: share of the image's points, in (0, 1], instead of k (at least one point).

    Examples:
        >>> TopKMask(k=2)(torch.tensor([[[0.1, 0.5, 0.0, 0.9]]]))
        tensor([[[0., 1., 0., 1.]]])
    """

    differentiable = False

    def __init__(self, k: int = 1000, fraction: float | None = None) -> None:
        if int(k) != k or k < 1:
            raise ValueError(f"k is {k}, expected a whole number of points, 1 or more.")
        if fraction is not None and not 0 < fraction <= 1:
            raise ValueError(f"fraction is {fraction}, expected 0 < fraction <= 1.")
        self.k = int(k)
        self.fraction = fraction

    def cut(self, saliency_map: Tensor) -> Tensor:
        """Mark the highest points."""
        flat = saliency_map.detach().flatten(1)
        size = flat.shape[1]
        count = self.k if self.fraction is None else max(1, round(self.fraction * size))
        top = flat.topk(min(count, size), dim=1).indices
        mask = torch.zeros_like(flat).scatter_(1, top, 1.0) * (flat > 0)
        return mask.view(saliency_map.shape)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, expected a finite number.")
    return float(value)


def _positive(name: str, value: float) -> float:
    if not value > 0 or not math.isfinite(value):
        raise ValueError(f"{name} is {value}, expected a finite number > 0.")
    return float(value)
