"""Completeness: the relevance of the pixels and of all constants adds up to the logit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ppi_med.saliency.base import Network, leaf_image
from ppi_med.saliency.engine import RecordedForward
from ppi_med.saliency.isolation import isolated
from ppi_med.saliency.rules import FOREIGN_RULES, WBP_RULES
from ppi_med.saliency.target import Target
from ppi_med.saliency.wbp import RuleRecording


@dataclass(frozen=True)
class Completeness:
    """Where the summed target score of a batch comes from.

    Attributes:
        score: the sum of the target scores.
        relevance: the sum of the map.
        constants: the part of biases, shifts, f(0), position embeddings and class tokens.
    """

    score: float
    relevance: float
    constants: float

    @property
    def relative_error(self) -> float:
        """``|relevance + constants - score|``, relative to the largest of the three."""
        scale = max(abs(self.score), abs(self.relevance), abs(self.constants), 1e-300)
        return abs(self.relevance + self.constants - self.score) / scale


def wbp_completeness(
    network: Network, image: Tensor, target: Target, **kwargs: object
) -> Completeness:
    """Account for a network's logits by pixels and constants under WBP's rules.

    The constants are collected one by one during the forward pass and asked for their weights; they
    are not the difference to the logit. Of a network with a `saliency_surrogate` the surrogate is
    accounted for. Numbers written into a part of a tensor (``masked_fill``, ``x[i] = 2``, padding
    by a value) are not collected; the error then shows them.

    Args:
        network: a module, or any callable on ``image``.
        image: ``(N, C, *spatial)``, floating point; float64 for small errors.
        target: see :func:`ppi_med.saliency.target.target_scores`.
        kwargs: further keyword arguments of the network.

    Returns:
        The parts, each summed over the batch.

    Raises:
        ValueError: where image or target do not fit.
        IndexError: where a class index is outside the output.
        UnsupportedOperationError: where relevance reaches an operation without a rule.

    Examples:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).double()
        >>> parts = wbp_completeness(network, torch.ones(3, 1, 2, 2).double(), 1)
        >>> parts.relative_error < 1e-12
        True
    """
    leaf = leaf_image(image)
    with isolated(network, image.device):
        forward = RecordedForward(WBP_RULES, network, foreign=FOREIGN_RULES, collect_constants=True)
        recording = RuleRecording(leaf, forward.run(leaf, **kwargs), forward)
        scores = recording.scores(target)
        constants = tuple(forward.constants or ())
        weights = recording.pass_back(scores, (leaf, *constants))
    contributions = [
        float((weight * value.detach()).sum())
        for weight, value in zip(weights, (leaf, *constants), strict=True)
    ]
    return Completeness(float(scores.detach().sum()), contributions[0], sum(contributions[1:]))
