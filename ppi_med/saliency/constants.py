"""Make leaves of the constants that linear operations add to the signal.

Only where constants are collected, to show that pixels and constants add up to the logit.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ppi_med.saliency.call import Call
from ppi_med.saliency.operations import ADDITIVE, BIASED, SUM_OF_PRODUCT
from ppi_med.saliency.roles import role_of, tensors_in


def with_constants(call: Call) -> Call:
    """Return ``call`` with a leaf for each constant operand of a sum, where they are collected."""
    if not call.collecting:
        return call
    args, kwargs = list(call.args), dict(call.kwargs)
    if call.name in BIASED:
        _expose(call, args, kwargs, 2, "bias")
    elif call.name in SUM_OF_PRODUCT:
        _expose(call, args, kwargs, 0, "input")
    elif call.name in ADDITIVE:
        first = 1 if call.in_place else 0
        args[first:] = [_exposed(call, argument) for argument in args[first:]]
        for name in ("input", "other", "tensors"):
            if name in kwargs:
                kwargs[name] = _exposed(call, kwargs[name])
    return call.replaced(tuple(args), kwargs)


def _expose(call: Call, args: list[Any], kwargs: dict[str, Any], position: int, name: str) -> None:
    where: Any = args if position < len(args) else kwargs
    key: Any = position if position < len(args) else name
    value = call.argument(position, name)
    if isinstance(value, Tensor) and role_of(value) is None:
        where[key] = call.constant(value)


def _exposed(call: Call, argument: Any) -> Any:
    if isinstance(argument, (tuple, list)):
        return type(argument)(_exposed(call, item) for item in argument)
    if isinstance(argument, Tensor):
        constant = role_of(argument) is None and argument.is_floating_point()
        return call.constant(argument) if constant else argument
    # A number is a constant of a sum, but the axis of a concatenation.
    if call.name in {"add", "sub", "rsub"} and isinstance(argument, float | int):
        operands = tensors_in((*call.args, call.kwargs))
        signal = next(tensor for tensor in operands if role_of(tensor) is not None)
        return call.constant(signal.new_tensor(float(argument)))
    return argument
