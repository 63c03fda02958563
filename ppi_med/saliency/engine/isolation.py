"""Running a network's modules as they are written, and restoring them afterwards."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def module_of(network: Callable[..., Any]) -> nn.Module | None:
    """Find the module behind a network.

    It may be the module itself, a bound method of it, a `functools.partial`, or a callable that
    names it in its attribute `network`.
    """
    while isinstance(network, functools.partial):
        network = network.func
    if isinstance(network, nn.Module):
        return network
    owner = getattr(network, "network", getattr(network, "__self__", None))
    return owner if isinstance(owner, nn.Module) else None


def modules_by_name(network: Callable[..., Any]) -> dict[str, nn.Module]:
    """Return the network's modules by name; empty for a function.

    Prefixes that `torch.compile` and wrappers for several devices add to a name may be left out.

    >>> sorted(modules_by_name(nn.DataParallel(nn.Sequential(nn.ReLU()))))
    ['', '0', 'module', 'module.0']
    """
    module = module_of(network)
    if module is None:
        return {}
    found = dict(module.named_modules(remove_duplicate=False))
    for name, owner in list(found.items()):
        short = ".".join(part for part in name.split(".") if part != "_orig_mod")
        found.setdefault(short, owner)
        while short.startswith("module."):
            short = short.removeprefix("module.")
            found.setdefault(short, owner)
    return found


def as_written() -> AbstractContextManager[Any]:
    """Run compiled parts of a network as they are written, so that operations are visible."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def isolated(network: Callable[..., Any], device: torch.device) -> Iterator[None]:
    """Restore buffers, training modes and random state of `network` on leaving, also on error.

    A forward in training mode changes BatchNorm's running statistics and draws dropout masks; a map
    must not do so. A function that only calls a module hides it: give the module, or a bound
    method.
    """
    module = module_of(network)
    modules = [] if module is None else list(module.modules())
    modes = [owner.training for owner in modules]
    buffers = [dict(owner._buffers.items()) for owner in modules]
    devices = [device] if device.type == "cuda" else []
    try:
        _set_aside(modules)
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for owner, training, kept in zip(modules, modes, buffers, strict=True):
            owner.training = training
            _put_back(owner, kept)


def _put_back(owner: nn.Module, buffers: dict[str, Tensor | None]) -> None:
    for name in [name for name in owner._buffers.keys() if name not in buffers]:  # noqa: SIM118
        del owner._buffers[name]
    for name, buffer in buffers.items():
        owner._buffers[name] = buffer


def _set_aside(modules: Sequence[nn.Module]) -> None:
    """Let the modules work on copies of their buffers.

    The originals are kept and not written back: an earlier graph may still need them at their
    version.
    """
    copies: dict[int, Tensor] = {}
    with torch.inference_mode(False):
        for owner in modules:
            for name, buffer in owner._buffers.items():
                if buffer is not None:
                    if id(buffer) not in copies:
                        copies[id(buffer)] = buffer.detach().clone()
                    owner._buffers[name] = copies[id(buffer)]
