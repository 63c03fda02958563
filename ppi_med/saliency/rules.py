"""The rules of Weight Back Propagation (Table 1), one function a family of operations.

``WBP_RULES`` maps the name of a torch operation to its rule; what is linear in the signal needs
none. :func:`ppi_med.saliency.attention` and :mod:`ppi_med.saliency.normalisation` hold the longer
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ppi_med.saliency import activations as act
from ppi_med.saliency.activations import Activation
from ppi_med.saliency.attention import (
    multi_head_attention,
    scaled_dot_product_attention,
    softmax,
)
from ppi_med.saliency.engine import Call, Rule
from ppi_med.saliency.normalisation import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    rms_norm,
)
from ppi_med.saliency.operations import is_in_place
from ppi_med.saliency.primitives import Switch, activation
from ppi_med.saliency.products import divide, matrix_product, product, weighted
from ppi_med.saliency.roles import Role, assign_role


def elementwise(formula: Callable[[Call], Activation], *, gating: bool = False) -> Rule:
    """Make the rule of an activation.

    Args:
        formula: from the call's parameters to the activation.
        gating: the result is a gate where it multiplies a signal (sigmoid, hardsigmoid).
    """

    def rule(call: Call) -> Tensor:
        x: Tensor = call.args[0] if call.args else call.kwargs["input"]
        # An in-place method changes x, whose value the ratio still needs.
        source = x.clone() if is_in_place(call.function) else x
        parsed = formula(call)
        out = activation(source, parsed, call.switch)
        if call.forward.constants is not None and parsed.at_zero:
            out = out - parsed.at_zero + call.constant(torch.full_like(out, parsed.at_zero))
        if is_in_place(call.function):
            out = x.copy_(out)
        assign_role(out, Role.GATE if gating else Role.SIGNAL)
        return out

    return rule


def _elu(call: Call) -> Activation:
    return act.elu(alpha=float(call.argument(1, "alpha", 1.0)))


def _celu(call: Call) -> Activation:
    alpha = float(call.argument(1, "alpha", 1.0))
    return act.elu(alpha=alpha, rate=1 / alpha)


def _selu(call: Call) -> Activation:
    return act.elu(alpha=1.6732632423543772, scale=1.0507009873554805)


def _softplus(call: Call) -> Activation:
    return act.softplus(
        float(call.argument(1, "beta", 1.0)), float(call.argument(2, "threshold", 20.0))
    )


def _hardtanh(call: Call) -> Activation:
    return act.clamp(call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0))


def _clamp(call: Call) -> Tensor:
    low, high = call.argument(1, "min"), call.argument(2, "max")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        out: Tensor = call.run()
        return call.refuse(out)
    return elementwise(lambda _: act.clamp(low, high))(call)  # type: ignore[no-any-return]


def _power(call: Call) -> Tensor:
    """x^n with a whole n >= 1: h(x) = x^(n-1) is the factor, one x the signal."""
    exponent = call.argument(1, "exponent", 2)
    whole = isinstance(exponent, float | int) and float(exponent).is_integer() and exponent >= 1
    if whole and not is_in_place(call.function):
        x: Tensor = call.args[0]
        return x * call.gate(x ** (exponent - 1)) if exponent > 1 else x.clone()
    out: Tensor = call.run()
    return call.refuse(out.clone())


def _glu(call: Call) -> Tensor:
    content, gates = call.args[0].chunk(2, dim=call.argument(1, "dim", -1))
    return content * call.gate(torch.sigmoid(gates))  # type: ignore[no-any-return]


def _grid_sample(call: Call) -> Tensor:
    image, grid, *rest = call.args
    return call.function(image, call.gate(grid), *rest, **call.kwargs)  # type: ignore[no-any-return]


def _rescaling(call: Call) -> Tensor:
    """1/sqrt(x) and the like: a rescaling of what it multiplies, with no relevance of its own."""
    out = call.refuse(call.run())
    assign_role(out, Role.GATE)
    return out


def _swish(saved: tuple[Tensor, ...], switch: Switch) -> Tensor:
    return activation(saved[0], act.SILU, switch)


WBP_RULES: Mapping[str, Rule] = {
    # activations
    "silu": elementwise(lambda _: act.SILU),
    "gelu": elementwise(lambda call: act.gelu(call.argument(1, "approximate", "none"))),
    "mish": elementwise(lambda _: act.MISH),
    "hardswish": elementwise(lambda _: act.HARDSWISH),
    "elu": elementwise(_elu),
    "celu": elementwise(_celu),
    "selu": elementwise(_selu),
    "tanh": elementwise(lambda _: act.TANH),
    "softsign": elementwise(lambda _: act.SOFTSIGN),
    "softplus": elementwise(_softplus),
    "relu6": elementwise(lambda _: act.clamp(0.0, 6.0)),
    "hardtanh": elementwise(_hardtanh),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": elementwise(lambda call: act.clamp(call.args[1], None)),
    "clamp_max": elementwise(lambda call: act.clamp(None, call.args[1])),
    "sigmoid": elementwise(lambda _: act.SIGMOID, gating=True),
    "hardsigmoid": elementwise(lambda _: act.HARDSIGMOID, gating=True),
    "square": _power,
    "pow": _power,
    # products and rescalings
    "mul": product,
    "matmul": matrix_product,
    "reflected_matmul": matrix_product,
    "bmm": matrix_product,
    "einsum": product,
    "div": divide,
    "rsqrt": _rescaling,
    # Weights kept as logarithms: exp(log w) is the gate that a softmax would have been.
    "exp": _rescaling,
    "glu": _glu,
    "grid_sample": _grid_sample,
    **{
        name: weighted
        for name in (
            "linear",
            *(f"conv{d}d" for d in (1, 2, 3)),
            *(f"conv_transpose{d}d" for d in (1, 2, 3)),
            "addmm",
            "baddbmm",
            "addbmm",
            "prelu",
        )
    },
    # normalisation
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "rms_norm": rms_norm,
    "normalize": normalize,
    # attention
    "softmax": softmax,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "multi_head_attention_forward": multi_head_attention,
}

# autograd functions that libraries define for themselves; MONAI's keeps memory, not values.
FOREIGN_RULES: Mapping[str, Callable[[tuple[Tensor, ...], Switch], Tensor]] = {
    "monai.networks.blocks.activation.SwishImplementation": _swish,
}
