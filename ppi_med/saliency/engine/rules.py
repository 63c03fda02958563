"""The rules of Weight Back Propagation (Table 1), one function per family of operations.

`WBP_RULES` maps the name of a torch operation to its rule; linear operations need no rule.
`ppi_med.saliency.engine.products`, `ppi_med.saliency.engine.normalisation` and
`ppi_med.saliency.engine.attention` hold the longer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ppi_med.saliency.engine import activations as act
from ppi_med.saliency.engine.activations import Activation
from ppi_med.saliency.engine.attention import multi_head_attention, scaled_dot_product_attention
from ppi_med.saliency.engine.call import Call, Rule
from ppi_med.saliency.engine.normalisation import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    normalize,
    rms_norm,
)
from ppi_med.saliency.engine.primitives import Relevance
from ppi_med.saliency.engine.products import (
    OPERANDS,
    add_quotient,
    broadcast,
    deviation_and_mean,
    divide,
    gated_linear_unit,
    grid_sample,
    lerp,
    product,
    product_of_some,
    rescaling,
)
from ppi_med.saliency.engine.roles import Role, role_of


def elementwise(formula: Callable[[Call], Activation], *, gating: bool = False) -> Rule:
    """Make the rule of an activation.

    Args:
        formula: from the call's parameters to the activation.
        gating: the result is a gate when it multiplies a signal (sigmoid, hardsigmoid).
    """

    def rule(call: Call) -> Tensor:
        call.role = Role.GATE if gating else Role.SIGNAL
        return _activate(call, formula(call))

    return rule


def _activate(call: Call, activation: Activation) -> Tensor:
    x: Tensor = call.argument(0, "input")
    # An operation in place changes x, whose value the ratio still needs.
    source = x.clone() if call.in_place else x
    # f(0) is a constant like a bias.
    constant = source.new_tensor(activation.at_zero) if activation.at_zero else None
    return call.detour(call.run(), activation.relevance, source, constant=constant)


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


def _clamp(call: Call) -> Any:
    low, high = call.argument(1, "min"), call.argument(2, "max")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return call.refuse(call.run())
    return _activate(call, act.clamp(low, high))


def _power(call: Call) -> Any:
    """x^n with n >= 1: h(x) = x^(n-1). Lower powers are rescalings."""
    x, exponent = call.argument(0, "input"), call.argument(1, "exponent", 2)
    if role_of(x) is None or role_of(exponent) is not None:
        return call.refuse(call.run())
    least = exponent.detach().min() if isinstance(exponent, Tensor) else exponent
    if float(least) < 1:
        return rescaling(call)
    source = x.clone() if call.in_place else x
    if isinstance(exponent, Tensor):
        return call.detour(call.run(), _power_relevance, source, exponent)
    return call.detour(call.run(), act.power(float(exponent)).relevance, source)


def _power_relevance(grad: Tensor, x: Tensor, exponent: Tensor) -> tuple[Tensor, None]:
    return (grad * x.pow(exponent - 1)).sum_to_size(x.shape), None


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
    "tanhshrink": elementwise(lambda _: act.TANHSHRINK),
    "softsign": elementwise(lambda _: act.SOFTSIGN),
    "softshrink": elementwise(lambda call: act.softshrink(float(call.argument(1, "lambd", 0.5)))),
    "softplus": elementwise(_softplus),
    "logsigmoid": elementwise(lambda _: act.LOGSIGMOID),
    "relu6": elementwise(lambda _: act.clamp(0.0, 6.0)),
    "hardtanh": elementwise(_hardtanh),
    "threshold": elementwise(
        lambda call: act.threshold(call.argument(1, "threshold"), call.argument(2, "value"))
    ),
    "clamp": _clamp,
    "clamp_min": elementwise(lambda call: act.clamp(call.argument(1, "min"), None)),
    "clamp_max": elementwise(lambda call: act.clamp(None, call.argument(1, "max"))),
    "sigmoid": elementwise(lambda _: act.SIGMOID, gating=True),
    "hardsigmoid": elementwise(lambda _: act.HARDSIGMOID, gating=True),
    "square": _power,
    "pow": _power,
    "float_power": _power,
    # products
    **dict.fromkeys(("mul", "matmul", "bmm", "einsum", "tensordot", "outer", "kron"), product),
    **dict.fromkeys(OPERANDS, product_of_some),
    "addcdiv": add_quotient,
    "lerp": lerp,
    "glu": gated_linear_unit,
    "grid_sample": grid_sample,
    # rescalings, and gates that are not activations
    "div": divide,
    **dict.fromkeys(
        ("reciprocal", "rsqrt", "sqrt", "exp", "erf", "softmax", "softmin", "gumbel_softmax"),
        rescaling,
    ),
    **dict.fromkeys(("std", "var", "norm", "linalg_norm", "linalg_vector_norm"), rescaling),
    **dict.fromkeys(("std_mean", "var_mean"), deviation_and_mean),
    "broadcast_tensors": broadcast,
    # normalisation
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "rms_norm": rms_norm,
    "normalize": normalize,
    # attention
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "multi_head_attention_forward": multi_head_attention,
}

# autograd functions of other libraries, by the tensors that they save.
FOREIGN_RULES: Mapping[str, Relevance] = {
    "monai.networks.blocks.activation.SwishImplementation": act.SILU.relevance,
}
