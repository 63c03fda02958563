"""The gradient of the score, alone (Simonyan et al., 2014) and times the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, SaliencyMethod
from ppi_med.saliency.engine.ordinary import GradientRecording

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
            ValueError: where `image` is not a floating point batch `(N, C, *spatial)`.
        """
        reading = _absolute if self.kind == "absolute" else _signed
        return GradientRecording(reading, network, image, args, kwargs)


class GradientTimesInput(SaliencyMethod):
    """The derivative of the score times the image, s = x dy/dx.

    Equals WBP on piecewise linear networks; see `ppi_med.saliency.WBP` for where not.

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
            ValueError: where `image` is not a floating point batch `(N, C, *spatial)`.
        """
        return GradientRecording(torch.mul, network, image, args, kwargs)


def _signed(gradient: Tensor, _: Tensor) -> Tensor:
    return gradient


def _absolute(gradient: Tensor, _: Tensor) -> Tensor:
    return gradient.abs()
