"""Layer-wise relevance propagation (Bach et al., 2015), and the choice of rules by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, SaliencyMethod, leaf_image
from ppi_med.saliency.engine.call import Call
from ppi_med.saliency.engine.isolation import modules_by_name
from ppi_med.saliency.lrp.engine import RelevanceForward
from ppi_med.saliency.lrp.layers import KINDS
from ppi_med.saliency.lrp.rules import AlphaBeta, Choice, Epsilon, Flat, Gamma, LRPRule, ZBeta
from ppi_med.saliency.target import Target
from ppi_med.saliency.wbp import RuleRecording


@dataclass(frozen=True)
class Composite:
    """Rules for layers; the first match decides: name, first layer, kind, default.

    Args:
        rule: rule of every layer without another.
        first: rule of the layer that runs first.
        kinds: `"linear"` or `"convolution"` (also transposed) -> rule.
        names: pattern of a module's name, such as `"features.*"` -> rule; the first match.

    Raises:
        ValueError: if a kind is not known.
    """

    rule: LRPRule = field(default_factory=Epsilon)
    first: LRPRule | None = None
    kinds: Mapping[str, LRPRule] = field(default_factory=dict)
    names: Mapping[str, LRPRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"unknown kinds of layers {sorted(unknown)}, expected some of {KINDS}")

    def choice(self, network: Network) -> Choice:
        """Return the choice of rules for one forward pass of `network`.

        Raises:
            ValueError: if a pattern fits no module's name.
        """
        named = self._named(network) if self.names else {}
        first: list[Tensor] = []

        def choose(call: Call, kind: str, weight: Tensor) -> LRPRule:
            if not first:
                first.append(weight)
            if self.names:
                rule = named.get(id(call.place().owner))
                if rule is not None:
                    return rule
            # A repeated weight is the same layer, on another chunk of a batch.
            if self.first is not None and weight is first[0]:
                return self.first
            return self.kinds.get(kind, self.rule)

        return choose

    def _named(self, network: Network) -> dict[int, LRPRule]:
        """Return the rules of the modules that have one by name, by their identity."""
        modules = modules_by_name(network)
        found: dict[int, LRPRule] = {}
        for pattern, rule in self.names.items():
            fitting = [module for name, module in modules.items() if fnmatchcase(name, pattern)]
            if not fitting:
                raise ValueError(
                    f"a rule is named for '{pattern}', which no module of the network is called: "
                    "give names as in named_modules(), of a module and not of a function"
                )
            for module in fitting:
                found.setdefault(id(module), rule)
        return found


def epsilon_plus(epsilon: float = 1e-6) -> Composite:
    """Epsilon for linear layers, z+ (alpha 1, beta 0) for convolutions."""
    return Composite(Epsilon(epsilon), kinds={"convolution": AlphaBeta(1.0, 0.0)})


def epsilon_alpha2_beta1(epsilon: float = 1e-6) -> Composite:
    """Epsilon for linear layers, alpha 2 beta 1 for convolutions."""
    return Composite(Epsilon(epsilon), kinds={"convolution": AlphaBeta(2.0, 1.0)})


def epsilon_plus_flat(epsilon: float = 1e-6) -> Composite:
    """`epsilon_plus`, with the flat rule for the first layer."""
    return Composite(Epsilon(epsilon), Flat(), {"convolution": AlphaBeta(1.0, 0.0)})


def epsilon_gamma_box(
    low: float | list[float], high: float | list[float], gamma: float = 0.25, epsilon: float = 1e-6
) -> Composite:
    """Epsilon for linear layers, gamma for convolutions, z^beta in [low, high] for the first."""
    return Composite(Epsilon(epsilon), ZBeta(low, high), {"convolution": Gamma(gamma)})


class LRPRecording(RuleRecording):
    """A forward recorded for LRP; maps are the relevance passed back to the image."""

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the relevance of every pixel, starting from R = the score of `target`."""
        scores = self.scores(target)
        start = scores if create_graph else scores.detach()
        return self.relevance(
            scores, start, create_graph=create_graph, retain_graph=retain_graph or create_graph
        )

    def relevance(
        self,
        output: Tensor,
        start: Tensor,
        *,
        create_graph: bool = False,
        retain_graph: bool = True,
    ) -> Tensor:
        """Return the relevance of every pixel, from a given start.

        Args:
            output: a tensor of the recorded output.
            start: relevance of each output value, of the output's shape.
            create_graph: record the map itself.
            retain_graph: keep the recording for a later `backward`.
        """
        nothing = torch.zeros_like(self.image)
        if not output.requires_grad:
            return nothing
        with torch.inference_mode(False), torch.enable_grad(), self.forward.switch:
            (found,) = torch.autograd.grad(
                output,
                self.image,
                start,
                create_graph=create_graph,
                retain_graph=retain_graph,
                allow_unused=True,
            )
        return nothing if found is None else found


class LRP(SaliencyMethod):
    """Layer-wise relevance propagation: the score is passed back, layer by layer, to the pixels.

    Linear and convolution layers share relevance by a rule, see
    `ppi_med.saliency.lrp.rules`; a BatchNorm directly after one is merged into it. Through
    activations and gates relevance passes unchanged, max pooling gives it to the maximum's
    position, sums and average pooling share it by contribution. With `Zero` everywhere the map is
    that of WBP, up to activations with f(0) != 0.

    Args:
        rule: rule of every layer without another (default `Epsilon(1e-6)`), or a whole `Composite`,
            which excludes the next three.
        first: rule of the layer that runs first.
        kinds: `"linear"` or `"convolution"` -> rule.
        names: pattern of a module's name -> rule; it has priority over first and kinds. Prefixes
            that wrappers for several devices and `torch.compile` add may be left out.
        share_epsilon: epsilon of sums, poolings and the like (default 1e-9).

    Raises:
        ValueError: if a kind is not known, or a composite comes with further rules.

    Examples:
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
        """Run `network(image, *args, **kwargs)` once under the rules.

        Raises:
            ValueError: if `image` is not a floating point batch `(N, C, *spatial)`, or a
                pattern fits no module of the network.
        """
        leaf = leaf_image(image)
        forward = RelevanceForward(self.composite.choice(network), network, self.share_epsilon)
        output = forward.run(leaf, *args, **kwargs)
        return LRPRecording(leaf, output, forward)
