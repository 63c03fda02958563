"""A pretrained network, and what it expects of a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

# RGB in 0..1: mean and standard deviation, of the networks that do not take ImageNet's.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OTHERS = {"efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3)}


@dataclass(frozen=True)
class Preparation:
    """(image - mean) / std, channel by channel; 0 is then a grey like the mean.

    Examples:
        >>> preparation_of("efficientnet_lite0")(torch.full((1, 3, 1, 1), 127 / 255)).abs().max()
        tensor(0.)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Tensor) -> Tensor:
        """Prepare images ``(N, C, H, W)`` in 0..1."""
        mean, std = (torch.tensor(v).view(1, -1, 1, 1).to(image) for v in (self.mean, self.std))
        return (image - mean) / std

    def bounds(self) -> tuple[list[float], list[float]]:
        """Return the least and the largest value of each channel of a prepared image."""
        pairs = list(zip(self.mean, self.std, strict=True))
        return [-mean / std for mean, std in pairs], [(1 - mean) / std for mean, std in pairs]


def preparation_of(name: str) -> Preparation:
    """Return what a pretrained network of this name expects."""
    return Preparation(*_OTHERS.get(name, _IMAGENET))


def pretrained(name: str, weights: Path, classes: int = 1000) -> nn.Module:
    """Return a classifier in evaluation mode with all its weights from a file.

    Channels lie last in memory: half of the time on a CPU, the same results.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where the name is unknown or the weights do not fit.
    """
    from ppi_med.networks.backbones import create_classifier

    network = create_classifier(name, classes, in_channels=3, weights=weights, head="load")
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
