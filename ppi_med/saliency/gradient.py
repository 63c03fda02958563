"""The gradient of the score: alone (Simonyan et al., 2014), times the input, and averaged.

Over noisy images it is SmoothGrad, over the way from a baseline integrated gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppi_med.saliency.base import MeanOverCopies, Network, SaliencyMethod, WayBack
from ppi_med.saliency.engine.ordinary import GradientRecording, MethodRecording
from ppi_med.saliency.target import Target

_KINDS = ("signed", "absolute")


class Gradient(SaliencyMethod):
    """The derivative of the score by each pixel, s = dy/dx or its absolute value.

    Args:
        kind: `"signed"` (default) or `"absolute"`.

    Raises:
        ValueError: for another kind.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> s = Gradient("absolute")(network, torch.ones(3, 1, 2, 2), target=1)
        >>> torch.equal(s[0].flatten(), network[1].weight[1].abs())
        True
    """

    def __init__(self, kind: str = "signed") -> None:
        if kind not in _KINDS:
            raise ValueError(f"kind is '{kind}', expected one of {_KINDS}")
        self.kind = kind

    def record(
        self, network: Network, image: Tensor, *args: Any, **kwargs: Any
    ) -> GradientRecording:
        """Run `network(image, *args, **kwargs)` once.

        Raises:
            ValueError: if `image` is not a floating point batch `(N, C, *spatial)`.
        """
        reading = _absolute if self.kind == "absolute" else _signed
        return GradientRecording(reading, network, image, args, kwargs)


class GradientTimesInput(SaliencyMethod):
    """The derivative of the score times the image, s = x dy/dx.

    Equals WBP on piecewise linear networks; see `ppi_med.saliency.WBP` for the differences.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
        >>> image = torch.ones(3, 1, 2, 2)
        >>> s = GradientTimesInput()(network, image, target=1)
        >>> torch.allclose(s.sum((1, 2, 3)), network(image)[:, 1])
        True
    """

    def record(
        self, network: Network, image: Tensor, *args: Any, **kwargs: Any
    ) -> GradientRecording:
        """Run `network(image, *args, **kwargs)` once.

        Raises:
            ValueError: if `image` is not a floating point batch `(N, C, *spatial)`.
        """
        return GradientRecording(torch.mul, network, image, args, kwargs)


def _signed(gradient: Tensor, _: Tensor) -> Tensor:
    return gradient


def _absolute(gradient: Tensor, _: Tensor) -> Tensor:
    return gradient.abs()


class SmoothGrad(MeanOverCopies):
    """The mean of a method's maps over noisy copies of the image.

    s = 1/n sum_i s_method(x + e_i), e_i normal with standard deviation `noise` times the range
    of each image. The noise has its own generator and is the same for all images of a batch and for
    every map, so a map depends on its image and the seed only.

    Args:
        method: the method (default `Gradient`).
        samples: noisy copies; each costs one map of the method (default 16).
        noise: standard deviation in units of max - min of each image (default 0.15).
        square: average the squares of the maps instead.
        seed: seed of the noise (default 0).

    Raises:
        ValueError: for fewer than one sample or negative noise.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> SmoothGrad(samples=2, seed=1)(network, torch.rand(3, 1, 2, 2), target=1).shape
        torch.Size([3, 1, 2, 2])
    """

    def __init__(
        self,
        method: SaliencyMethod | None = None,
        *,
        samples: int = 16,
        noise: float = 0.15,
        square: bool = False,
        seed: int = 0,
    ) -> None:
        if samples < 1 or noise < 0:
            raise ValueError(
                f"samples is {samples} and noise {noise}, expected at least one sample and noise "
                "of 0 or more"
            )
        self.method = Gradient() if method is None else method
        self.samples = samples
        self.noise = noise
        self.square = square
        self.seed = seed

    def copies(self, image: Tensor) -> Iterator[tuple[Tensor, WayBack]]:
        """Yield the noisy copies of `image`, whose maps are on its own pixels."""
        axes = tuple(range(1, image.ndim))
        width = self.noise * (image.amax(axes, keepdim=True) - image.amin(axes, keepdim=True))
        generator = torch.Generator(image.device).manual_seed(self.seed)
        for _ in range(self.samples):
            noise = torch.randn(
                (1, *image.shape[1:]),
                generator=generator,
                dtype=torch.promote_types(image.dtype, torch.float32),
                device=image.device,
            )
            yield image + width * noise.to(image.dtype), _as_it_is

    def of_copy(self, saliency: Tensor) -> Tensor:
        """Return the map, or its square."""
        return saliency.square() if self.square else saliency


def _as_it_is(saliency: Tensor) -> Tensor:
    return saliency


Baseline = float | Tensor
_RULES = ("gauss", "midpoint")


class IntegratedGradients(SaliencyMethod):
    """The gradient averaged over the straight path from a baseline, times the difference.

    s = (x - x') int_0^1 dy/dx (x' + a (x - x')) da. The map adds up to y(x) - y(x') as the
    number of steps grows. It costs one forward and one backward pass per step, each of the whole
    batch; with `create_graph` it keeps the graphs of all steps at once.

    Args:
        steps: points on the path (default 32).
        baseline: x', the empty image: a number (default 0) or a tensor that broadcasts to the
            image.
        rule: `"gauss"` (default, Gauss-Legendre) or `"midpoint"`.

    Raises:
        ValueError: for fewer than one step or another rule.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
        >>> image = torch.ones(3, 1, 2, 2)
        >>> s = IntegratedGradients(steps=4)(network, image, target=1)
        >>> torch.allclose(s.sum((1, 2, 3)), network(image)[:, 1], atol=1e-6)
        True
    """

    def __init__(self, steps: int = 32, baseline: Baseline = 0.0, rule: str = "gauss") -> None:
        if steps < 1:
            raise ValueError(f"steps is {steps}, expected at least 1")
        if rule not in _RULES:
            raise ValueError(f"rule is '{rule}', expected one of {_RULES}")
        self.steps = steps
        self.baseline = baseline
        self.rule = rule

    def path(self) -> list[tuple[float, float]]:
        """Return the places a in (0, 1) with their weights, which add up to 1."""
        if self.rule == "midpoint":
            return [((i + 0.5) / self.steps, 1 / self.steps) for i in range(self.steps)]
        places, weights = np.polynomial.legendre.leggauss(self.steps)
        pairs = zip((places + 1) / 2, weights / 2, strict=True)
        return [(float(place), float(weight)) for place, weight in pairs]

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> PathRecording:
        """Run `network(image, *args, **kwargs)` once; the path is walked for each map.

        Raises:
            ValueError: if `image` is not a floating point batch `(N, C, *spatial)`.
        """
        return PathRecording(self, network, image, args, kwargs)


class PathRecording(MethodRecording[IntegratedGradients]):
    """The forward of the image; maps take further passes, which leave no trace."""

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the map of `target`."""
        self.scores(target)  # a wrong target is refused before the path
        image = self.image.detach()
        with torch.inference_mode(False):
            start = torch.as_tensor(self.method.baseline, dtype=image.dtype, device=image.device)
            start = start.expand_as(image).detach()
            total = torch.zeros_like(image)
            for place, weight in self.method.path():
                point = torch.lerp(start, image, place).requires_grad_()
                scores = self.other_scores(point, target)
                (gradient,) = self.gradients(scores, (point,), create_graph=create_graph)
                if gradient is not None:
                    with torch.set_grad_enabled(create_graph):
                        total = total + weight * gradient
            with torch.set_grad_enabled(create_graph):
                return total * (image - start)
