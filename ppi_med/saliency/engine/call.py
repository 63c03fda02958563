"""One torch operation in the recorded forward: the input of a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from ppi_med.saliency.engine.operations import ADDITIVE, BIASED, SUM_OF_PRODUCT
from ppi_med.saliency.engine.primitives import Relevance, Switch, detour, gate
from ppi_med.saliency.engine.roles import Role, map_tensors, role_of, tensors_in
from ppi_med.saliency.engine.unknown import Place, current_place, refuse


class Forward(Protocol):
    """What a call needs from its recorded forward.

    Attributes:
        network: whose forward runs.
        switch: on while a map is computed.
        constants: the constants collected so far; None: they are not collected.
        for_training: see `RecordedForward`.
    """

    network: Callable[..., Any]
    switch: Switch
    constants: list[Tensor] | None
    for_training: bool

    def constant(self, value: Tensor) -> Tensor:
        """Return a constant of the sum, as a leaf if constants are collected."""

    def __enter__(self) -> Any:
        """Record again, inside an operation."""

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> Any:
        """Stop recording."""


@dataclass
class Call:
    """A call of a torch operation on the signal.

    Attributes:
        function: the torch function as it was called.
        name: its plain name (see `ppi_med.saliency.engine.operations.operation_name`).
        args: positional arguments.
        kwargs: keyword arguments.
        forward: its recorded forward.
        role: role of its result; a rule may change it.
        in_place: whether the first operand is changed: `relu_`, `x += y`, `inplace=True`.
    """

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    forward: Forward
    role: Role = Role.SIGNAL
    in_place: bool = False

    @property
    def collecting(self) -> bool:
        """Whether constants are collected, and so must be leaves of the graph."""
        return self.forward.constants is not None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument given by position or by name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def run(self) -> Any:
        """Run the operation as it is."""
        return self.function(*self.args, **self.kwargs)

    def replaced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return the same call with other arguments."""
        return replace(self, args=args, kwargs=kwargs)

    def with_first(self, value: Any) -> Call:
        """Return the same call with another first operand."""
        if self.args:
            return self.replaced((value, *self.args[1:]), self.kwargs)
        return self.replaced((), {**self.kwargs, "input": value})

    def gate(self, value: Tensor) -> Tensor:
        """Return `value` as a constant of the map."""
        return gate(value, self.forward.switch)

    def detour(
        self,
        value: Tensor,
        relevance: Relevance,
        *operands: Tensor | None,
        constant: Tensor | None = None,
    ) -> Tensor:
        """Return `value` with its derivative; a rule passes relevance to the operands.

        The rule must not keep the call or its tensors: it lives as long as the graph.

        Args:
            value: what the operation returned.
            relevance: see `ppi_med.saliency.engine.primitives.Relevance`.
            operands: arguments of the rule; None are left out.
            constant: what the operation has added to its result, used if constants are collected.
                The value and the map stay the same.
        """
        present = tuple(operand for operand in operands if operand is not None)
        if constant is not None and self.collecting:
            present = (*present, self.constant(constant.expand(value.shape).to(value.dtype)))
            relevance = _and_to_constant(relevance)
        switch = self.forward.switch
        return detour(value, relevance, switch, present, in_place=self.in_place)

    def constant(self, value: Tensor) -> Tensor:
        """Return `value`; if constants are collected, as a leaf whose weight can be read later."""
        return self.forward.constant(value)

    def place(self) -> Place:
        """Return the module in which the operation was called."""
        return current_place(self.forward.network)

    def refuse(self, output: Any) -> Any:
        """Return `output`; relevance that reaches it raises an error naming the operation."""
        place = self.place()
        own = {id(argument) for argument in self.args} if not self.in_place else set()

        def refused(value: Tensor) -> Tensor:
            if not value.requires_grad or id(value) in own:
                return value
            return refuse(value, self.name, place, self.forward.switch, in_place=self.in_place)

        return map_tensors(output, refused)


def _and_to_constant(relevance: Relevance) -> Relevance:
    def passed(grad: Tensor, *operands: Tensor) -> tuple[Tensor | None, ...]:
        return (*relevance(grad, *operands[:-1]), grad)

    return passed


# From a call to its result, with its path for relevance.
Rule = Callable[[Call], Any]


def with_constants(call: Call) -> Call:
    """Return `call` with a leaf for each constant operand of a sum, if constants are collected."""
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
