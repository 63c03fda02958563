"""Leave a network as it was found: buffers, modes and random state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def module_of(network: Callable[..., Any]) -> nn.Module | None:
    """Find the module behind a network given as module, bound method or ``functools.partial``."""
    while isinstance(network, functools.partial):
        network = network.func
    if isinstance(network, nn.Module):
        return network
    owner = getattr(network, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


@contextmanager
def isolated(network: Callable[..., Any], device: torch.device) -> Iterator[None]:
    """Restore buffers, training modes and random state of ``network`` on leaving, also on error.

    A forward in training mode moves BatchNorm's running statistics and draws dropout masks; a map
    computed for a picture must not.
    """
    module = module_of(network)
    buffers = _buffers(module)
    modes = [] if module is None else [(m, m.training) for m in module.modules()]
    devices = [device] if device.type == "cuda" else []
    try:
        # The originals are set aside rather than written back: a graph recorded before may still
        # need them at their version.
        for owner, name, buffer in buffers:
            owner._buffers[name] = buffer.detach().clone()
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for owner, training in modes:
            owner.training = training
        for owner, name, buffer in buffers:
            owner._buffers[name] = buffer


def _buffers(module: nn.Module | None) -> list[tuple[nn.Module, str, Tensor]]:
    if module is None:
        return []
    return [
        (owner, name, buffer)
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
