"""Name the module whose forward is running, for error messages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import nn

from ppi_med.saliency.isolation import module_of


def current_module(network: Callable[..., Any]) -> str:
    """Return e.g. ``module 'features.3' (LocalResponseNorm)``, read from the call stack.

    The engine places no hooks, so the running module is looked up only when it is needed: the
    innermost frame whose ``self`` is a module.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return _describe(owner, network)
        frame = frame.f_back
    return f"the function {getattr(network, '__name__', type(network).__name__)}"


def _describe(module: nn.Module, network: Callable[..., Any]) -> str:
    root = module_of(network)
    if root is not None:
        for name, candidate in root.named_modules():
            if candidate is module:
                return f"module '{name or '(root)'}' ({type(module).__name__})"
    return f"a module of class {type(module).__name__}"
