"""The first layer that is trained needs no gradient of the image, except for a map.

A trainer's ``backward`` through a recorded forward would pass its derivative on to the image, at
full resolution, and nobody reads it. So the first layer sees its input detached, and relevance
alone has a way to the image. For convolutions see :mod:`ppi_med.saliency.convolution`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppi_med.saliency.call import Call
from ppi_med.saliency.roles import Role, is_untouched, role_of


def first_linear(call: Call) -> Tensor | None:
    """Run ``linear`` where it is the first layer that is trained; None: it is not."""
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    if call.collecting or role_of(x) is not Role.SIGNAL or not is_untouched(x):
        return None
    trained = any(isinstance(p, Tensor) and p.requires_grad for p in (weight, bias))
    if not trained or role_of(weight) is not None or role_of(bias) is not None:
        return None  # where nothing is trained there is no graph yet, and torch's own serves
    if not torch.is_grad_enabled():
        return None
    out: Tensor = call.with_first(x.detach()).run()
    return call.detour(out, _linear_rule, x, weight)


def _linear_rule(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, None]:
    return (grad @ weight.to(grad.dtype)).to(x.dtype), None
