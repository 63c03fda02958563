"""Name the module whose forward is running, for error messages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import nn

from ppi_med.saliency.isolation import module_of


@dataclass(frozen=True)
class Place:
    """Where in a network an operation was called; written as ``module 'features.3' (ReLU)``.

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
    """Return the running module, read from the call stack: the innermost ``self`` that is one.

    The engine places no hooks, so it looks only where a name may be needed.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return Place(owner, network)
        frame = frame.f_back
    return Place(None, network)
