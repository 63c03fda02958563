"""Saliency-guided training: what has little gradient may be anything, the answer must stay."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.utils.enums import CommonKeys
from torch import Tensor

from ppi_med.baselines.base import Baseline, log_probabilities
from ppi_med.intervention import log_odds
from ppi_med.intervention.randomness import process_rank
from ppi_med.saliency import primary_logits
from ppi_med.training.modes import running_statistics_kept
from ppi_med.training.rng import derive_seeds


class SaliencyGuided(Baseline):
    """Saliency-guided training (Ismail et al., NeurIPS 2021, arXiv 2111.14338).

    L = L_cls + weight mean_i KL(p(x_i) || p(x'_i)). x' is x, whose `share` of values with the least
    |d evidence of y / d x| is drawn again, evenly between the least and the greatest value of x. x'
    leaves the running statistics as they are.

    Args:
        weight: lambda.
        share: share of the values of an image.
        seed: seed of the draws.

    Examples:
        >>> SaliencyGuided(share=0.3).share
        0.3
    """

    uses_inferer = True

    def __init__(self, weight: float = 1.0, share: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        if weight < 0 or not 0 < share < 1:
            raise ValueError(
                f"weight is {weight} and share {share}, expected 0 or more and between 0 and 1."
            )
        self.weight, self.share, self.seed = weight, share, seed

    def prepare(self, image: Tensor) -> Tensor:
        """Return the images as leaves that gradients are taken of."""
        return image.detach().requires_grad_()

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss with the divergence, and the divergence."""
        image = self.seen.image
        assert image is not None
        logits = primary_logits(output[CommonKeys.PRED])
        evidence = log_odds(logits, output[CommonKeys.LABEL]).sum()
        (slope,) = torch.autograd.grad(evidence, image, retain_graph=True)
        (seed,) = derive_seeds(1, self.seed, engine.state.iteration, process_rank())
        generator = torch.Generator().manual_seed(seed)
        self.seen.image = with_least_drawn(image.detach(), slope, self.share, generator)
        with running_statistics_kept(engine.network):  # type: ignore[attr-defined]
            altered = primary_logits(self.seen.again(engine.network))  # type: ignore[attr-defined]
        divergence = kl_divergence(logits, altered).mean()
        return output[CommonKeys.LOSS] + self.weight * divergence, {"saliency_guided": divergence}


def with_least_drawn(
    image: Tensor, slope: Tensor, share: float, generator: torch.Generator
) -> Tensor:
    """Return images whose share of values with the least absolute slope is drawn again.

    Examples:
        >>> x, g = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[9.0, -8.0, 0.1, 0.2]])
        >>> made = with_least_drawn(x, g, 0.5, torch.Generator().manual_seed(0))
        >>> made[0, :2].tolist(), bool((made[0, 2:] != x[0, 2:]).all())
        ([1.0, 2.0], True)
    """
    flat, size = image.flatten(1), slope.flatten(1).abs()
    least = size.topk(max(1, round(share * size.shape[1])), dim=1, largest=False).indices
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    drawn = torch.rand(least.shape, generator=generator).to(flat)
    return flat.scatter(1, least, low + drawn * (high - low)).view_as(image)


def kl_divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Return KL(p || q) of each sample, `(N,)`; of a single logit both classes count.

    Examples:
        >>> kl_divergence(torch.zeros(1, 1), torch.zeros(1, 1)).item()
        0.0
    """
    one, two = (log_probabilities(value) for value in (logits, other))
    return (one.exp() * (one - two)).sum(1)
