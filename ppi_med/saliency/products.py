"""Products of two tensors that both depend on the image: one is the gate, the other the signal.

A sigmoid gate, a softmax attention or a rescaling is the h of what it multiplies: constant to the
rule. Where neither factor is a gate there is no rule, unless both are the same tensor.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ppi_med.saliency.engine import Call
from ppi_med.saliency.roles import Role, role_of, tensors_in


def product(call: Call) -> Any:
    """Elementwise product and einsum."""
    return _gated(call, call.args)


def matrix_product(call: Call) -> Any:
    """Matrix products: attention weights times values, or a product with a constant."""
    return _gated(call, call.args)


def weighted(call: Call) -> Any:
    """Linear maps whose weight may depend on the image too (dynamic convolution)."""
    weights = [call.argument(1, "weight")]
    if call.name in {"addmm", "baddbmm", "addbmm"}:
        weights = [call.argument(1, "mat1"), call.argument(2, "mat2")]
    operands = [call.args[0], *weights]
    if sum(role_of(t) is not None for t in operands) > 1 or call.name.startswith(("add", "badd")):
        return _gated(call, call.args)
    if call.forward.constants is not None:
        call = call.forward.expose_constants(call)
    return call.run()


def divide(call: Call) -> Any:
    """X / y: the divisor is a rescaling, as 1/sigma in a normalisation is."""
    divisor = call.args[1] if len(call.args) > 1 else call.kwargs["other"]
    if role_of(divisor) is None:
        return call.run()
    out = call.function(call.args[0], call.gate(divisor), *call.args[2:], **call.kwargs)
    # With a constant above the fraction bar nothing is left that could carry relevance.
    return call.refuse(out) if role_of(call.args[0]) is None else out


def _gated(call: Call, args: tuple[Any, ...]) -> Any:
    factors = [t for t in tensors_in(args) if role_of(t) is not None]
    if len(factors) < 2:
        if call.forward.constants is not None:
            call = call.forward.expose_constants(call)
        return call.run()
    signals = [t for t in factors if role_of(t) is Role.SIGNAL]
    if any(signal is not signals[0] for signal in signals):
        return call.refuse(call.run())
    kept = signals[0] if signals else factors[0]
    seen = False

    def gated(value: Any) -> Any:
        nonlocal seen
        if isinstance(value, (tuple, list)):
            return type(value)(gated(item) for item in value)
        if not isinstance(value, Tensor) or role_of(value) is None:
            return value
        if value is kept and not seen:
            seen = True
            return value
        return call.gate(value)

    return call.function(*(gated(argument) for argument in args), **call.kwargs)
