"""One torch operation on its way through the recorded forward: what a rule is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ppi_med.saliency.location import Place, current_place
from ppi_med.saliency.primitives import Relevance, detour, gate
from ppi_med.saliency.refusal import refuse
from ppi_med.saliency.roles import Role, map_tensors

if TYPE_CHECKING:
    from ppi_med.saliency.engine import RecordedForward


@dataclass
class Call:
    """A call of a torch operation on the signal.

    Attributes:
        function: the torch function as it was called.
        name: its plain name (see :func:`ppi_med.saliency.operations.operation_name`).
        args: positional arguments.
        kwargs: keyword arguments.
        forward: the recorded forward that it belongs to.
        role: of its result; a rule may change it.
        in_place: whether the first operand is changed: ``relu_``, ``x += y``, ``inplace=True``.
    """

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    forward: RecordedForward
    role: Role = Role.SIGNAL
    in_place: bool = False

    @property
    def collecting(self) -> bool:
        """Whether constants are collected, so that they must be leaves of the graph."""
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
        """Return ``value`` as a constant of the map."""
        return gate(value, self.forward.switch)

    def detour(
        self,
        value: Tensor,
        relevance: Relevance,
        *operands: Tensor | None,
        constant: Tensor | None = None,
    ) -> Tensor:
        """Return ``value`` with its derivative, relevance passing to the operands by a rule.

        The rule must hold neither the call nor its tensors: it lives as long as the graph.

        Args:
            value: what the operation returned.
            relevance: see :data:`ppi_med.saliency.primitives.Relevance`.
            operands: what the rule is given; None are left out.
            constant: what the operation has added to its result; asked for where constants are
                collected. The value and the map stay the same.
        """
        present = tuple(operand for operand in operands if operand is not None)
        if constant is not None and self.collecting:
            present = (*present, self.constant(constant.expand(value.shape).to(value.dtype)))
            relevance = _and_to_constant(relevance)
        switch = self.forward.switch
        return detour(value, relevance, switch, present, in_place=self.in_place)

    def constant(self, value: Tensor) -> Tensor:
        """Return ``value``; where constants are collected, as a leaf that can be asked later."""
        return self.forward.constant(value)

    def place(self) -> Place:
        """Return the module in which the operation was called."""
        return current_place(self.forward.network)

    def refuse(self, output: Any) -> Any:
        """Return ``output``; relevance that reaches it raises an error naming the operation."""
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
