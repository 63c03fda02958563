"""BatchNorm merged into the layer before it: one layer with w' = w s, b' = (b - mean) s + beta."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppi_med.saliency.lrp_layers import LinearMap

NamedRelevance = Callable[[Tensor, dict[str, Tensor]], Tensor]


def merged_relevance(layer: LinearMap, eps: float, relevance: NamedRelevance) -> NamedRelevance:
    """Return the relevance rule of a layer with its BatchNorm, s = gamma / sigma.

    Args:
        layer: the map of the layer.
        eps: of the BatchNorm.
        relevance: the rule of a layer, by tensors ``x``, ``weight``, ``bias``, ``z``.

    Returns:
        The rule by the same tensors and ``gamma``, ``beta``, and either ``mean`` and ``variance``
        or, for batch statistics, the BatchNorm's ``inputs``. Statistics are constants to the rule.
    """

    def merged(r: Tensor, named: dict[str, Tensor]) -> Tensor:
        if "inputs" in named:
            x = named["inputs"]
            wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            variance, mean = torch.var_mean(wide, [0, *range(2, x.ndim)], correction=0)
        else:
            mean, variance = named["mean"], named["variance"]
        scale = (variance + eps).rsqrt()
        scale = scale if "gamma" not in named else scale * named["gamma"]
        shift = -mean if "bias" not in named else named["bias"] - mean
        shift = shift * scale if "beta" not in named else shift * scale + named["beta"]
        weight = named["weight"]
        return relevance(
            r,
            {
                "x": named["x"],
                "weight": layer.scaled(weight, scale.to(weight.dtype)),
                "bias": shift.to(weight.dtype),
                "z": named["z"],
            },
        )

    return merged
