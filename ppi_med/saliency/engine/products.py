"""Products of two tensors that both depend on the image: one is the gate, the other the signal.

A sigmoid gate, a softmax attention or a rescaling is the h of what it multiplies: a constant for
the rule. If neither factor is a gate there is no rule, unless both are the same tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.engine.call import Call, with_constants
from ppi_med.saliency.engine.convolution import convolution, first_linear
from ppi_med.saliency.engine.primitives import Relevance
from ppi_med.saliency.engine.roles import Role, assign_role, map_tensors, role_of, tensors_in

# The operands that are multiplied with each other, by position and name.
_Operands = tuple[tuple[int, str], ...]
_WEIGHTED: _Operands = ((0, "input"), (1, "weight"))
_FACTORS: _Operands = ((1, "mat1"), (2, "mat2"))
_BATCHED: _Operands = ((1, "batch1"), (2, "batch2"))
_ELEMENTS: _Operands = ((1, "tensor1"), (2, "tensor2"))
OPERANDS: dict[str, _Operands] = {
    "addmm": _FACTORS,
    "addmv": ((1, "mat"), (2, "vec")),
    "addr": ((1, "vec1"), (2, "vec2")),
    "baddbmm": _BATCHED,
    "addbmm": _BATCHED,
    "addcmul": _ELEMENTS,
    "bilinear": ((0, "input1"), (1, "input2")),
    **{
        name: _WEIGHTED
        for name in (
            "linear",
            *(f"conv{d}d" for d in (1, 2, 3)),
            *(f"conv_transpose{d}d" for d in (1, 2, 3)),
            "prelu",
        )
    },
}
# In a trained layer relevance has its own path.
_TRAINED = {"linear": first_linear, **{n: convolution for n in OPERANDS if n.startswith("conv")}}


def product(call: Call) -> Any:
    """Products of all operands: elementwise, of matrices, `einsum`."""
    factors = [t for t in tensors_in((*call.args, call.kwargs)) if role_of(t) is not None]
    if len(factors) < 2:
        return call.run()
    kept = _signal_among(factors)
    if kept is None:
        return call.refuse(call.run())
    seen = False

    def gated(value: Tensor) -> Tensor:
        nonlocal seen
        if value is kept and not seen:
            seen = True
            return value
        return value if role_of(value) is None else call.gate(value)

    args, kwargs = map_tensors(call.args, gated), map_tensors(call.kwargs, gated)
    inner, first = call.replaced(args, kwargs), call.argument(0, "input")
    if not call.in_place or inner.argument(0, "input") is first:
        return inner.run()
    # A gate that is multiplied in place: autograd refuses to change the view that stands for it.
    return first.copy_(inner.with_first(inner.argument(0, "input").clone()).run())


def product_of_some(call: Call) -> Any:
    """Products of some operands with others added: `linear`, `conv2d`, `addmm`."""
    own = _TRAINED.get(call.name) if call.forward.for_training else None
    if own is not None and (out := own(call)) is not None:
        return out
    call = with_constants(call)
    operands = OPERANDS[call.name]
    factors = [t for at in operands if role_of(t := call.argument(*at)) is not None]
    if len(factors) < 2:
        return call.run()
    kept = _signal_among(factors)
    if kept is None:
        return call.refuse(call.run())
    gates = tuple(at for at in operands if call.argument(*at) is not kept)
    return _with_gates(call, gates or operands[1:]).run()


def divide(call: Call) -> Any:
    """X / y: the divisor is a rescaling, like 1/sigma in a normalisation."""
    divisor = call.argument(1, "other")
    if call.kwargs.get("rounding_mode") is not None:
        return call.refuse(call.run())
    if role_of(divisor) is None:
        return call.run()
    out = _with_gates(call, ((1, "other"),)).run()
    if role_of(call.argument(0, "input")) is not None:
        return out
    # With a constant numerator nothing carries relevance.
    call.role = Role.GATE
    return call.refuse(out)


def add_quotient(call: Call) -> Any:
    """`addcdiv`: input + tensor1 / tensor2, the divisor a rescaling."""
    return _with_gates(with_constants(call), ((2, "tensor2"),)).run()


def lerp(call: Call) -> Any:
    """Start + weight (end - start): the weight is a gate."""
    return _with_gates(call, ((2, "weight"),)).run()


def grid_sample(call: Call) -> Any:
    """Sampling is linear in the image; the sampling positions are a gate."""
    out = _with_gates(call, ((1, "grid"),)).run()
    return out if role_of(call.argument(0, "input")) is not None else call.refuse(out)


def gated_linear_unit(call: Call) -> Tensor:
    """Gate one half of the operand by the sigmoid of the other: a * sigmoid(b)."""
    return call.detour(
        call.run(), _glu_rule(call.argument(1, "dim", -1)), call.argument(0, "input")
    )


def _glu_rule(dim: int) -> Relevance:
    def relevance(grad: Tensor, x: Tensor) -> tuple[Tensor]:
        gates = torch.sigmoid(x.chunk(2, dim)[1])
        return (torch.cat([grad * gates, torch.zeros_like(gates)], dim),)

    return relevance


def rescaling(call: Call) -> Any:
    """1/x, sqrt(x), exp(x) ...: a rescaling of what it multiplies, without its own relevance."""
    call.role = Role.GATE
    return call.refuse(call.run())


def deviation_and_mean(call: Call) -> Any:
    """`torch.var_mean`: the deviation is a rescaling, the mean is linear."""
    deviation, mean = call.run()
    rescaled = call.refuse(deviation)
    assign_role(rescaled, Role.GATE)
    return rescaled, mean


def broadcast(call: Call) -> Any:
    """Give each tensor its own operand's role."""
    operands = list(tensors_in(call.args))
    expanded = call.run()
    for operand, result in zip(operands, expanded, strict=True):
        assign_role(result, role_of(operand) or Role.CONSTANT)
    return expanded


def _signal_among(factors: list[Tensor]) -> Tensor | None:
    """Return the one factor that carries relevance; among gates only, the first."""
    signals = [factor for factor in factors if role_of(factor) is Role.SIGNAL]
    if any(signal is not signals[0] for signal in signals):
        return None
    return signals[0] if signals else factors[0]


def _with_gates(call: Call, operands: _Operands) -> Call:
    args, kwargs = list(call.args), dict(call.kwargs)
    for position, name in operands:
        where: Any = args if position < len(args) else kwargs
        key: Any = position if position < len(args) else name
        value = call.argument(position, name)
        if role_of(value) is not None:
            where[key] = call.gate(value)
    return call.replaced(tuple(args), kwargs)
