"""Tensors that reach the recorded forward without having passed through it.

Results of an ``autograd.Function`` that a library defines for itself, of TorchScript, and views of
a tensor that was changed in place: each is classified where it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from ppi_med.saliency.location import current_place
from ppi_med.saliency.primitives import Relevance, Switch, detour
from ppi_med.saliency.refusal import refuse
from ppi_med.saliency.roles import Role, assign_role, is_classified, role_of

# Functions that only watch: they pass their operands on, and relevance with them.
_WATCHING = frozenset({"torch.nn.parallel.distributed._DDPSink"})


class Outside:
    """Gives a role, and where it is needed a rule, to tensors of unknown origin.

    Args:
        network: to name the module where such a tensor is met.
        switch: the engine's.
        foreign: qualified name of an ``autograd.Function`` -> relevance rule on its saved tensors.
    """

    def __init__(
        self, network: Callable[..., Any], switch: Switch, foreign: Mapping[str, Relevance]
    ) -> None:
        self.network = network
        self.switch = switch
        self.foreign = foreign
        self.entrance: Node | None = None

    def classify(self, tensor: Tensor) -> None:
        """Give ``tensor`` its role; the tensor itself takes the detour, as in-place results do."""
        base = tensor._base if tensor._is_view() else None
        if base is not None and is_classified(base) and role_of(base) is not None:
            # A view of what has changed in place since.
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
                # Depth first along first operands: the image is usually at the end of that path.
                found.extend(following for following, _ in reversed(current.next_functions))
        return False


def _origin(node: Node | None) -> str:
    if isinstance(node, BackwardCFunction):
        owner = getattr(type(node), "_forward_cls", type(node))
        return f"{owner.__module__}.{owner.__qualname__}"
    name = "unknown" if node is None else node.name()
    return f"{name} (made outside of the recorded forward, for example by TorchScript)"
