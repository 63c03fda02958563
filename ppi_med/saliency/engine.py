"""The recorded forward: an ordinary forward pass in which operations keep a rule for relevance.

A ``TorchFunctionMode`` around the network's own forward sends each operation with a rule of its
own through an autograd function with two behaviours (:mod:`ppi_med.saliency.primitives`): the rule
while a map is computed, the true derivative at all other times. Everything else is autograd as it
is. No hooks are placed, so functional calls, reused modules and in-place ReLU work, and nothing is
left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppi_med.saliency.location import current_module
from ppi_med.saliency.operations import (
    ADDITIVE,
    BIASED,
    GATE_KEEPING,
    LINEAR,
    STRUCTURAL,
    is_in_place,
    operation_name,
)
from ppi_med.saliency.primitives import Switch, gate, surrogate, unruled
from ppi_med.saliency.roles import Role, assign_role, role_of, tensors_in


@dataclass
class Call:
    """One torch operation on the signal, on its way through the recorded forward.

    Attributes:
        function: the torch function as it was called.
        name: its plain name (see :func:`ppi_med.saliency.operations.operation_name`).
        args: positional arguments.
        kwargs: keyword arguments.
        forward: the recorded forward that it belongs to.
    """

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    forward: RecordedForward

    @property
    def switch(self) -> Switch:
        """The switch between rule and derivative."""
        return self.forward.switch

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument given by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def run(self) -> Any:
        """Run the operation as it is."""
        return self.function(*self.args, **self.kwargs)

    def gate(self, value: Tensor) -> Tensor:
        """Return ``value`` as a constant of the map."""
        return gate(value, self.switch)

    def constant(self, value: Tensor) -> Tensor:
        """Return ``value``; where constants are collected, as a leaf that can be asked later."""
        return self.forward.constant(value)

    def refuse(self, value: Tensor) -> Tensor:
        """Return ``value``; relevance that reaches it raises an error naming the operation."""
        return unruled(value, self.name, current_module(self.forward.network), self.switch)


Rule = Callable[[Call], Any]


class RecordedForward(TorchFunctionMode):
    """The mode under which a network's forward is recorded.

    Args:
        rules: operation name -> rule.
        network: the network, to name the module of an operation without a rule.
        foreign: qualified name of an ``autograd.Function`` -> rule on its saved tensors; such
            functions bypass torch's dispatch and are met where their result is used.
        collect_constants: keep each constant that is added to the signal as a leaf
            (see :mod:`ppi_med.saliency.completeness`).
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        network: Callable[..., Any],
        *,
        foreign: Mapping[str, Callable[[tuple[Tensor, ...], Switch], Tensor]] | None = None,
        collect_constants: bool = False,
    ) -> None:
        super().__init__()
        self.rules = rules
        self.network = network
        self.switch = Switch()
        self.foreign = foreign or {}
        self.constants: list[Tensor] | None = [] if collect_constants else None

    def run(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the network on ``image``, a leaf, and return its output."""
        with torch.inference_mode(False), torch.enable_grad():
            # A copy, because a network may change its input in place and a leaf may not be.
            entrance = image.clone()
            assign_role(entrance, Role.SIGNAL)
            with self:
                output = self.network(entrance, *args, **kwargs)
            return self._adopt_all(output)

    def constant(self, value: Tensor) -> Tensor:
        """Return ``value``, or where constants are collected a leaf of the same value."""
        if self.constants is None:
            return value
        leaf = value.detach().clone().requires_grad_()
        self.constants.append(leaf)
        return leaf

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        args, kwargs = self._adopt_all(args), self._adopt_all(kwargs)
        roles = [r for t in tensors_in((*args, kwargs)) if (r := role_of(t)) is not None]
        if not roles:
            return func(*args, **kwargs)
        call = Call(func, operation_name(func), args, kwargs, self)
        role = Role.SIGNAL
        if call.name in GATE_KEEPING and all(r is Role.GATE for r in roles):
            role = Role.GATE
        output = self._dispatch(call)
        self._assign_new(output, role)
        if is_in_place(func) or call.name == "setitem":
            assign_role(args[0], role)
        return output

    def _dispatch(self, call: Call) -> Any:
        explained = getattr(call.function, "saliency_surrogate", None)
        if explained is not None:
            return self._with_surrogate(call, explained)
        if isinstance(call.kwargs.get("out"), Tensor):
            return self._refuse_all(call)
        rule = self.rules.get(call.name)
        if rule is not None:
            return rule(call)
        if call.name in STRUCTURAL or call.name in LINEAR:
            if self.constants is not None:
                call = self.expose_constants(call)
            return call.run()
        return self._refuse_all(call)

    def _with_surrogate(self, call: Call, explained: Callable[..., Tensor]) -> Tensor:
        value = call.run()
        with self:
            linear = explained(*call.args, **call.kwargs)
        return surrogate(value, linear, self.switch)

    def _refuse_all(self, call: Call) -> Any:
        """Run an operation without a rule; relevance that reaches its result raises."""
        output = call.run()
        if not any(t.requires_grad for t in tensors_in((output,))):
            return output
        if is_in_place(call.function):
            return call.args[0].copy_(call.refuse(output.clone()))
        return _map_tensors(output, lambda t: call.refuse(t) if t.requires_grad else t)

    def _assign_new(self, output: Any, role: Role) -> None:
        for tensor in tensors_in((output,)):
            if tensor.requires_grad and role_of(tensor) is None:
                assign_role(tensor, role)

    def _adopt_all(self, value: Any) -> Any:
        """Replace results of foreign autograd functions in ``value`` by results with a rule."""
        foreign = any(
            role_of(t) is None and isinstance(t.grad_fn, torch.autograd.function.BackwardCFunction)
            for t in tensors_in((value,))
        )
        return _map_tensors(value, self._adopt) if foreign else value

    def _adopt(self, tensor: Tensor) -> Tensor:
        node = tensor.grad_fn
        if role_of(tensor) is not None or not isinstance(
            node, torch.autograd.function.BackwardCFunction
        ):
            return tensor
        owner = getattr(type(node), "_forward_cls", type(node))
        name = f"{owner.__module__}.{owner.__qualname__}"
        rule = self.foreign.get(name)
        if rule is None:
            where = current_module(self.network)
            adopted = unruled(tensor, name, where, self.switch)
        else:
            adopted = rule(tuple(node.saved_tensors), self.switch)
        assign_role(adopted, Role.SIGNAL)
        return adopted

    def expose_constants(self, call: Call) -> Call:
        """Make leaves of the constants that an operation adds to the signal."""
        args, kwargs = list(call.args), dict(call.kwargs)
        if call.name in BIASED:
            if len(args) > 2 and isinstance(args[2], Tensor):
                args[2] = self.constant(args[2])
            if isinstance(kwargs.get("bias"), Tensor):
                kwargs["bias"] = self.constant(kwargs["bias"])
        elif call.name in ADDITIVE:
            first = 1 if is_in_place(call.function) else 0
            args[first:] = [self._exposed(argument, call) for argument in args[first:]]
        elif call.name in {"addmm", "addmv", "baddbmm", "addbmm"} and role_of(args[0]) is None:
            args[0] = self.constant(args[0])
        return Call(call.function, call.name, tuple(args), kwargs, self)

    def _exposed(self, argument: Any, call: Call) -> Any:
        if isinstance(argument, (tuple, list)):
            return type(argument)(self._exposed(item, call) for item in argument)
        if isinstance(argument, Tensor):
            constant = role_of(argument) is None and argument.is_floating_point()
            return self.constant(argument) if constant else argument
        # A number is a constant of a sum, but the axis of a concatenation.
        if call.name in {"add", "sub", "rsub"} and isinstance(argument, float | int):
            signal = next(t for t in tensors_in(call.args) if role_of(t) is not None)
            return self.constant(signal.new_tensor(float(argument)))
        return argument


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_tensors(item, function) for item in value))
    if isinstance(value, (tuple, list)):
        items = [_map_tensors(item, function) for item in value]
        # Some torch functions return a structured sequence of their own type (torch.max, sort).
        return items if isinstance(value, list) else tuple(items)
    return value
