"""Weight Back Propagation (Table 1 of arXiv 2012.03369)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, Recording, SaliencyMethod, leaf_image, usable
from ppi_med.saliency.engine import RecordedForward
from ppi_med.saliency.rules import FOREIGN_RULES, WBP_RULES
from ppi_med.saliency.target import Target, target_scores

# Weights of single pixels are small beside float16: they are passed back larger, as a loss is.
_FLOAT16_SCALE = 2.0**10


class RuleRecording(Recording):
    """A forward recorded under relevance rules; maps are ``image * W`` with W passed back.

    A ``backward`` of the output trains the network as that of an ordinary forward does, but stops
    before ``image``: its gradient is worth a transposed convolution, and only a map asks for it.
    """

    def __init__(self, image: Tensor, output: Any, forward: RecordedForward) -> None:
        super().__init__(image, output)
        self.forward = forward

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return s = W_0 * x, the relevance of every pixel for ``target``."""
        (weights,) = self.pass_back(
            self.scores(target),
            (self.image,),
            create_graph=create_graph,
            retain_graph=retain_graph or create_graph,
        )
        return weights * self.image.detach()

    def scores(self, target: Target) -> Tensor:
        """Return the scores ``(N,)`` of ``target``; one that is a callable is under the rules."""
        with torch.inference_mode(False), torch.enable_grad():
            if isinstance(target, Tensor):
                return target_scores(self.output, usable(target))
            if not callable(target):
                return target_scores(self.output, target)
            with self.forward:
                scores = target_scores(self.output, target)
        if len(scores) != len(self.image):
            raise ValueError(
                f"a target callable returned {len(scores)} scores for {len(self.image)} images: "
                "return one score an image"
            )
        return scores

    def pass_back(
        self,
        scores: Tensor,
        inputs: tuple[Tensor, ...],
        *,
        create_graph: bool = False,
        retain_graph: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return the weights W of ``inputs`` for the sum of the scores."""
        if not scores.requires_grad:
            return tuple(torch.zeros_like(value) for value in inputs)

        def passed(scale: float, retain: bool) -> tuple[Tensor, ...]:
            with torch.inference_mode(False), torch.enable_grad(), self.forward.switch:
                total = scores.sum() if scale == 1 else scores.float().sum() * scale
                found = torch.autograd.grad(
                    total, inputs, create_graph=create_graph, retain_graph=retain, allow_unused=True
                )
            return tuple(
                torch.zeros_like(value) if weight is None else weight / scale
                for value, weight in zip(inputs, found, strict=True)
            )

        if not self.forward.in_float16:
            return passed(1.0, retain_graph)
        weights = passed(_FLOAT16_SCALE, True)
        if all(bool(weight.isfinite().all()) for weight in weights):
            return weights
        return passed(1.0, retain_graph)


class WBP(SaliencyMethod):
    """Weight Back Propagation: the map is the image times the weights passed back to it.

    Each layer passes the weights back by Table 1: linear layers by their transpose, an activation
    f by h(x) = (f(x) - f(0)) / x, max pooling to the position that won, BatchNorm by gamma/sigma.
    On networks of linear, convolution, ReLU, pooling and evaluation-mode BatchNorm layers this
    equals gradient x input; elsewhere it does not (docs: explanation/wbp).

    The sum of the map and of all constants (biases, f(0), shifts) is the logit.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
        >>> image = torch.ones(3, 1, 2, 2)
        >>> s = WBP()(network, image, target=1)
        >>> s.shape
        torch.Size([3, 1, 2, 2])
        >>> torch.allclose(s.sum((1, 2, 3)), network(image)[:, 1])
        True
    """

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> RuleRecording:
        """Run ``network(image, *args, **kwargs)`` once under the rules.

        Args:
            network: a module, or any callable on the image.
            image: ``(N, C, *spatial)``, floating point.
            args: further arguments of the network.
            kwargs: further keyword arguments of the network.

        Returns:
            The recording; ``recording.output`` has the gradients of an ordinary forward.

        Raises:
            ValueError: where ``image`` is not a floating point batch.
        """
        leaf = leaf_image(image)
        forward = RecordedForward(WBP_RULES, network, foreign=FOREIGN_RULES)
        output = forward.run(leaf, *args, **kwargs)
        return RuleRecording(leaf, output, forward)
