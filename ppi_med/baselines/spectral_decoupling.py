"""Spectral decoupling: large logits cost, so that one feature is not enough to be sure by."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.utils.enums import CommonKeys
from torch import Tensor

from ppi_med.baselines.base import Baseline
from ppi_med.intervention.numeric import at_least_float32
from ppi_med.saliency import primary_logits


class SpectralDecoupling(Baseline):
    """Gradient starvation's remedy (Pezeshki et al., NeurIPS 2021, arXiv 2011.09468).

    L = L_cls + weight / 2 mean_i ||z_i||^2, with z_i the logits of image i.

    Args:
        weight: lambda.

    Examples:
        >>> SpectralDecoupling(weight=0.5).weight
        0.5
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight is {weight}, expected 0 or more.")
        self.weight = weight

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss with its penalty, and the mean squared length of the logits."""
        logits = at_least_float32(primary_logits(output[CommonKeys.PRED]))
        penalty = logits.square().reshape(len(logits), -1).sum(1).mean()
        return output[CommonKeys.LOSS] + self.weight / 2 * penalty, {"logits": penalty}
