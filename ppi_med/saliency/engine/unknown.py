"""Operations and tensors without a rule: where they occur, and the error about them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from ppi_med.saliency.engine.isolation import module_of
from ppi_med.saliency.engine.primitives import Relevance, Switch, UnsupportedOperationError, detour
from ppi_med.saliency.engine.roles import Role, assign_role, is_classified, role_of


@dataclass(frozen=True)
class Place:
    """Where in a network an operation was called; written as `module 'features.3' (ReLU)`.

    The name is looked up only when it is printed.
    """

    owner: nn.Module | None
    network: Callable[..., Any]

    def __str__(self) -> str:
        if self.owner is None:
            return f"the function {getattr(self.network, '__name__', type(self.network).__name__)}"
        root = module_of(self.network)
        names = [] if root is None else [n for n, m in root.named_modules() if m is self.owner]
        kind = type(self.owner).__name__
        return f"module '{names[0] or '(root)'}' ({kind})" if names else f"a module of class {kind}"


def current_place(network: Callable[..., Any]) -> Place:
    """Return the running module from the call stack: the innermost `self` that is a module.

    The engine has no hooks, so it searches only if a name may be needed.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return Place(owner, network)
        frame = frame.f_back
    return Place(None, network)


def refuse(
    value: Tensor, operation: str, place: Place, switch: Switch, *, in_place: bool = False
) -> Tensor:
    """Return `value`; relevance that reaches it raises `UnsupportedOperationError`."""
    return detour(value, _refusing(operation, place), switch, (), in_place=in_place)


# Messages for operations with another remedy.
_INSTEAD = {
    "torch.nn.modules._functions.SyncBatchNorm": (
        "no relevance rule for synchronised batch normalisation in training: its statistics are "
        "those of all processes; train with BatchNorm, DistributedDataParallel(..., "
        "broadcast_buffers=False) and the handler AverageBuffers"
    ),
}


def _refusing(operation: str, place: Place) -> Relevance:
    def raise_error(*_: Tensor) -> NoReturn:
        raise UnsupportedOperationError(
            _INSTEAD.get(operation)
            or f"no relevance rule for the operation '{operation}' in {place}: it is not linear in "
            "what depends on the image; explain a target before it, or write the step as a "
            "function with a `saliency_surrogate`"
        )

    return raise_error


# Functions that only observe: they pass on their operands, and the relevance.
_WATCHING = frozenset({"torch.nn.parallel.distributed._DDPSink"})


class Outside:
    """Gives a role, and if needed a rule, to tensors of unknown origin.

    Args:
        network: the network, to name the module in which such a tensor occurs.
        switch: the engine's.
        foreign: qualified name of an `autograd.Function` -> relevance rule on its saved tensors.
    """

    def __init__(
        self, network: Callable[..., Any], switch: Switch, foreign: Mapping[str, Relevance]
    ) -> None:
        self.network = network
        self.switch = switch
        self.foreign = foreign
        self.entrance: Node | None = None

    def classify(self, tensor: Tensor) -> None:
        """Give `tensor` its role; the tensor itself gets the detour, like in-place results."""
        base = tensor._base if tensor._is_view() else None
        if base is not None and is_classified(base) and role_of(base) is not None:
            # A view of a tensor that has changed in place since.
            assign_role(tensor, Role.SIGNAL)
            return
        if not self._depends_on_image(tensor.grad_fn):
            assign_role(tensor, Role.CONSTANT)
            return
        name = _origin(tensor.grad_fn)
        rule = self.foreign.get(name)
        if name in _WATCHING:
            pass
        elif rule is None:
            place = current_place(self.network)
            refuse(tensor, name, place, self.switch, in_place=True)
        else:
            operands = tuple(getattr(tensor.grad_fn, "saved_tensors", ()))
            detour(tensor, rule, self.switch, operands, in_place=True)
        assign_role(tensor, Role.SIGNAL)

    def _depends_on_image(self, node: Node | None) -> bool:
        found: list[Node | None] = [node]
        seen: set[Node | None] = {None}
        while found:
            current = found.pop()
            if current is self.entrance:
                return True
            if current is not None and current not in seen:
                seen.add(current)
                # Depth first along the first operands: that path usually ends at the image.
                found.extend(following for following, _ in reversed(current.next_functions))
        return False


def _origin(node: Node | None) -> str:
    if isinstance(node, BackwardCFunction):
        owner = getattr(type(node), "_forward_cls", type(node))
        return f"{owner.__module__}.{owner.__qualname__}"
    name = "unknown" if node is None else node.name()
    return f"{name} (made outside of the recorded forward, for example by TorchScript)"
