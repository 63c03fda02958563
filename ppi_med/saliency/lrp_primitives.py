"""Autograd functions that let relevance take another way, or another unit, than derivatives do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.grad_mode import _unsafe_preserve_version_counter as preserved_version

from ppi_med.saliency.primitives import Switch


class _Alias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Tensor | None:
        return grad


class _Rerouted(torch.autograd.Function):
    """Behind a result: derivatives go to what made it, relevance to another tensor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, source: Tensor, switch: Switch) -> Tensor:
        ctx.switch, ctx.shape, ctx.dtype = switch, source.shape, source.dtype
        ctx.part = value._is_view()
        ctx.set_materialize_grads(False)
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        if grad is None or not ctx.switch.on:
            return grad, None, None
        passed = grad.sum_to_size(ctx.shape).to(ctx.dtype)
        # Of a part of a tensor, None would stand for the whole.
        return (torch.zeros_like(grad) if ctx.part else None), passed, None


class _Translated(torch.autograd.Function):
    """An alias through which relevance passes in another unit."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, unit: Callable[..., Tensor], switch: Switch, kept: Tensor
    ) -> Tensor:
        ctx.unit, ctx.switch = unit, switch
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(kept)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        if grad is None or not ctx.switch.on:
            return grad, None, None, None
        return ctx.unit(grad, *ctx.saved_tensors), None, None, None


def aliased(value: Tensor) -> Tensor:
    """Return an alias that stands for ``value`` before an operation in place.

    Only its place in the graph may be used: its value changes with the operation.
    """
    out: Tensor = _Alias.apply(value)  # type: ignore[no-untyped-call]
    return out


def rerouted(value: Tensor, source: Tensor, switch: Switch, *, in_place: bool) -> Tensor:
    """Return ``value`` with its derivative; relevance passes unchanged to ``source``.

    Args:
        value: the result of an operation, which is returned itself.
        source: the operand that takes the relevance, summed where it was broadcast.
        switch: the engine's.
        in_place: the operation changed its operand, and ``value`` is that operand.
    """
    if not value.requires_grad:
        return value
    if value._is_view() and not in_place:
        value = value.clone()
    # Nothing is changed: a result that its own operation has saved must not count as changed.
    with preserved_version(value):
        out: Tensor = _Rerouted.apply(value, source, switch)  # type: ignore[no-untyped-call]
    return out


def translated(value: Tensor, unit: Callable[..., Tensor], switch: Switch, kept: Tensor) -> Tensor:
    """Return an alias of ``value``; what passes back while a map is computed is ``unit(r, kept)``.

    Args:
        value: any tensor of the graph.
        unit: from what arrives, and ``kept``, to what is passed on.
        switch: the engine's.
        kept: a tensor that nothing changes in place.
    """
    out: Tensor = _Translated.apply(value, unit, switch, kept)  # type: ignore[no-untyped-call]
    return out
