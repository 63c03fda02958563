"""Completeness: the relevance of the pixels and of all constants adds up to the logit."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ppi_med.saliency.base import Network
from ppi_med.saliency.engine.isolation import isolated
from ppi_med.saliency.target import Target
from ppi_med.saliency.wbp import recorded


@dataclass(frozen=True)
class Completeness:
    """Where the summed target score of a batch comes from.

    Attributes:
        score: the sum of the target scores.
        relevance: the sum of the map.
        constants: the part of biases, shifts, f(0), position embeddings and class tokens.
        saliency: the map, as `WBP` returns it.
    """

    score: float
    relevance: float
    constants: float
    saliency: Tensor = field(repr=False, compare=False)

    @property
    def relative_error(self) -> float:
        """`|relevance + constants - score|`, relative to the largest of the three."""
        scale = max(abs(self.score), abs(self.relevance), abs(self.constants), 1e-300)
        return abs(self.relevance + self.constants - self.score) / scale


def wbp_completeness(
    network: Network, image: Tensor, target: Target, **kwargs: object
) -> Completeness:
    """Split a network's logits into the parts of pixels and constants under WBP's rules.

    The map and the parts come from one pass, the same as in `WBP`. The constants are collected one
    by one during the forward pass and their weights are read; they are not the difference to the
    logit. For a network with a `saliency_surrogate` the parts are those of the surrogate. Numbers
    written into a part of a tensor (`masked_fill`, `x[i] = 2`, padding by a value) are not
    collected; the error then shows them.

    Args:
        network: a module, or any callable on `image`.
        image: `(N, C, *spatial)`, floating point; float64 for small errors.
        target: see `ppi_med.saliency.target.target_scores`.
        kwargs: further keyword arguments of the network.

    Returns:
        The parts, each summed over the batch.

    Raises:
        ValueError: if image or target do not fit.
        IndexError: if a class index is outside the output.
        UnsupportedOperationError: if relevance reaches an operation without a rule.

    Examples:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).double()
        >>> parts = wbp_completeness(network, torch.ones(3, 1, 2, 2).double(), 1)
        >>> parts.relative_error < 1e-12
        True
    """
    with isolated(network, image.device):
        recording = recorded(network, image, (), kwargs, for_training=False, collect_constants=True)
        scores = recording.scores(target)
        constants = tuple(recording.forward.constants or ())
        weights, *of_constants = recording.pass_back(scores, (recording.image, *constants))
    saliency = weights * recording.image.detach()
    shifts = [
        float((weight * value.detach()).sum())
        for weight, value in zip(of_constants, constants, strict=True)
    ]
    return Completeness(float(scores.detach().sum()), float(saliency.sum()), sum(shifts), saliency)
