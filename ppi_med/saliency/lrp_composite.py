"""Which layer has which LRP rule: by name, by place, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import Tensor

from ppi_med.saliency.base import Network
from ppi_med.saliency.call import Call
from ppi_med.saliency.isolation import modules_by_name
from ppi_med.saliency.lrp_layers import KINDS
from ppi_med.saliency.lrp_rules import AlphaBeta, Epsilon, Flat, Gamma, LRPRule, ZBeta

# From a call of a layer, its kind and its weight to its rule.
Choice = Callable[[Call, str, Tensor], LRPRule]


@dataclass(frozen=True)
class Composite:
    """Rules for layers; the first of these that fits decides: name, first layer, kind, default.

    Args:
        rule: of every layer that has no other.
        first: of the layer that runs first.
        kinds: ``"linear"`` or ``"convolution"`` (also transposed) -> rule.
        names: pattern of a module's name, such as ``"features.*"`` -> rule; the first that fits.

    Raises:
        ValueError: where a kind is not known.
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
        """Return the choice of rules for one forward pass of ``network``.

        Raises:
            ValueError: where a pattern fits no module's name.
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
            # The same weight again is the same layer, on another chunk of a batch.
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
    """:func:`epsilon_plus`, with the flat rule for the first layer."""
    return Composite(Epsilon(epsilon), Flat(), {"convolution": AlphaBeta(1.0, 0.0)})


def epsilon_gamma_box(
    low: float | list[float], high: float | list[float], gamma: float = 0.25, epsilon: float = 1e-6
) -> Composite:
    """Epsilon for linear layers, gamma for convolutions, z^beta in [low, high] for the first."""
    return Composite(Epsilon(epsilon), ZBeta(low, high), {"convolution": Gamma(gamma)})
