"""Integrated gradients (Sundararajan et al., 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppi_med.saliency.base import Network, SaliencyMethod
from ppi_med.saliency.engine.ordinary import OrdinaryRecording
from ppi_med.saliency.target import Target

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
            ValueError: where `image` is not a floating point batch `(N, C, *spatial)`.
        """
        return PathRecording(self, network, image, args, kwargs)


class PathRecording(OrdinaryRecording):
    """The forward of the image; maps take further passes, which leave no trace."""

    def __init__(
        self,
        method: IntegratedGradients,
        network: Network,
        image: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(network, image, args, kwargs)
        self.method = method

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
