"""Layer-wise relevance propagation (Bach et al., 2015) on the recorded forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, SaliencyMethod, leaf_image
from ppi_med.saliency.lrp_composite import Composite
from ppi_med.saliency.lrp_engine import RelevanceForward
from ppi_med.saliency.lrp_rules import LRPRule
from ppi_med.saliency.target import Target
from ppi_med.saliency.wbp import RuleRecording


class LRPRecording(RuleRecording):
    """A forward recorded for LRP; maps are the relevance passed back to the image."""

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the relevance of every pixel, starting from R = the score of ``target``."""
        scores = self.scores(target)
        nothing = torch.zeros_like(self.image)
        if not scores.requires_grad:
            return nothing
        with torch.inference_mode(False), torch.enable_grad(), self.forward.switch:
            (found,) = torch.autograd.grad(
                scores,
                self.image,
                scores if create_graph else scores.detach(),
                create_graph=create_graph,
                retain_graph=retain_graph or create_graph,
                allow_unused=True,
            )
        return nothing if found is None else found


class LRP(SaliencyMethod):
    """Layer-wise relevance propagation: the score is handed back, layer by layer, to the pixels.

    Linear and convolution layers share relevance by a rule, see
    :mod:`ppi_med.saliency.lrp_rules`; a BatchNorm directly behind one is merged into it. Through
    activations and gates relevance passes unchanged, max pooling gives it to the position that
    won, sums and average pooling share it by contribution. With :class:`Zero` everywhere the map
    is that of WBP, up to activations with f(0) != 0.

    Args:
        rule: of every layer that has no other (default ``Epsilon(1e-6)``), or a whole
            :class:`Composite`, which leaves no room for the next three.
        first: of the layer that runs first.
        kinds: ``"linear"`` or ``"convolution"`` -> rule.
        names: pattern of a module's name -> rule; goes before first and kinds. What wrappers for
            several devices and ``torch.compile`` add to a name may be left out.
        share_epsilon: epsilon of sums, poolings and the like (default 1e-9).

    Raises:
        ValueError: where a kind is not known, or a composite comes with further rules.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
        >>> image = torch.ones(3, 1, 2, 2)
        >>> s = LRP()(network, image, target=1)
        >>> torch.allclose(s.sum((1, 2, 3)), network(image)[:, 1], atol=1e-4)
        True
    """

    def __init__(
        self,
        rule: LRPRule | Composite | None = None,
        *,
        first: LRPRule | None = None,
        kinds: Mapping[str, LRPRule] | None = None,
        names: Mapping[str, LRPRule] | None = None,
        share_epsilon: float = 1e-9,
    ) -> None:
        if isinstance(rule, Composite):
            if first is not None or kinds or names:
                raise ValueError("a composite has its own first, kinds and names: give them there")
            self.composite = rule
        else:
            options = {} if rule is None else {"rule": rule}
            self.composite = Composite(
                **options, first=first, kinds=dict(kinds or {}), names=dict(names or {})
            )
        self.share_epsilon = share_epsilon

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> LRPRecording:
        """Run ``network(image, *args, **kwargs)`` once under the rules.

        Raises:
            ValueError: where ``image`` is not a floating point batch ``(N, C, *spatial)``, or a
                pattern fits no module of the network.
        """
        leaf = leaf_image(image)
        forward = RelevanceForward(self.composite, network, self.share_epsilon)
        output = forward.run(leaf, *args, **kwargs)
        return LRPRecording(leaf, output, forward)
