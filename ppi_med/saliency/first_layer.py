"""The first layer that is trained needs no gradient of the image, except for a map.

A trainer's ``backward`` through a recorded forward would pass its derivative on to the image, by a
transposed convolution at full resolution whose result nobody reads. So the first convolution or
linear layer sees its input detached, and relevance alone has a way to the image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import grad as adjoint

from ppi_med.saliency.call import Call
from ppi_med.saliency.primitives import Relevance
from ppi_med.saliency.roles import Role, is_untouched, role_of

_ADJOINT = {
    "conv1d": adjoint.conv1d_input,
    "conv2d": adjoint.conv2d_input,
    "conv3d": adjoint.conv3d_input,
}
# The operations that can be one.
FIRST_LAYERS = frozenset({"linear", *_ADJOINT})


def first_layer(call: Call) -> Tensor | None:
    """Run the operation where it is the first that is trained; None: it is not."""
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    if call.collecting or role_of(x) is not Role.SIGNAL or not is_untouched(x):
        return None
    trained = any(isinstance(p, Tensor) and p.requires_grad for p in (weight, bias))
    if not trained or role_of(weight) is not None or role_of(bias) is not None:
        return None  # where nothing is trained there is no graph yet, and torch's own serves
    rule = _linear_rule if call.name == "linear" else _convolution_rule(call, weight)
    if rule is None or not torch.is_grad_enabled():
        return None
    out: Tensor = call.with_first(x.detach()).run()
    return call.detour(out, rule, x, weight)


def _linear_rule(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, None]:
    return (grad @ weight.to(grad.dtype)).to(x.dtype), None


def _convolution_rule(call: Call, weight: Tensor) -> Relevance | None:
    pass_back = _ADJOINT.get(call.name)
    stride, padding = call.argument(3, "stride", 1), call.argument(4, "padding", 0)
    dilation, groups = call.argument(5, "dilation", 1), call.argument(6, "groups", 1)
    if pass_back is None or isinstance(padding, str):
        return None

    def relevance(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Any, None]:
        passed = pass_back(  # type: ignore[no-untyped-call]
            x.shape, weight.to(grad.dtype), grad, stride, padding, dilation, groups
        )
        return passed.to(x.dtype), None

    return relevance if call.argument(0, "input").ndim == weight.ndim else None
