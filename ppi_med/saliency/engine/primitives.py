"""Autograd functions with two behaviours: the rule while a map is computed, else the derivative.

Each gets the engine's `Switch`. It is an object and not a thread-local: on CUDA the backward pass
runs in other threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# From a result's relevance and its kept operands to the relevance of each operand.
Relevance = Callable[..., tuple[Tensor | None, ...]]


class Switch:
    """On while a map is computed: relevance rules replace derivatives."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *exc: object) -> None:
        self.on = False


class UnsupportedOperationError(RuntimeError):
    """Relevance reached an operation that is not linear and has no rule."""


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, switch: Switch) -> Tensor:
        ctx.switch = switch
        ctx.set_materialize_grads(False)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        return (None if ctx.switch.on else grad), None


class _Entrance(torch.autograd.Function):
    """A copy of the image; only a map reads its weights."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, switch: Switch) -> Tensor:
        ctx.switch = switch
        ctx.set_materialize_grads(False)
        return image.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        return (grad if ctx.switch.on else None), None


class _Detour(torch.autograd.Function):
    """Follows a result: derivatives pass to the operation that made it, relevance does not.

    The value is not copied. It is declared changed in place, so that the detour is in the graph of
    all its users, and of a tensor that it is a view of.
    """

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, relevance: Relevance, switch: Switch, *operands: Tensor
    ) -> Tensor:
        ctx.relevance, ctx.switch, ctx.part = relevance, switch, value._is_view()
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands)
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        nothing = (None,) * (len(ctx.needs_input_grad) - 3)
        if grad is None or not ctx.switch.on:
            return (grad, None, None, *nothing)
        if not ctx.part:
            return (None, None, None, *ctx.relevance(grad, *ctx.saved_tensors))
        # Zeros for this part: None would mean that the whole tensor gets no relevance.
        passed = ctx.relevance(grad, *ctx.saved_tensors) if bool(grad.any()) else nothing
        return (torch.zeros_like(grad), None, None, *passed)


class _ViewDetour(_Detour):
    """The same for a result that is a view of its operand; the operand must not change."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, relevance: Relevance, switch: Switch, *operands: Tensor
    ) -> Tensor:
        ctx.relevance, ctx.switch, ctx.part = relevance, switch, False
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands)
        return value.detach()


class _BatchDeviation(torch.autograd.Function):
    """1/sigma of a batch, already known from the forward pass, as a function of the batch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(x, mean, inverse)
        return inverse.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, mean, inverse = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        # d(1/sigma)/dx = -(x - mean) / (n sigma^3)
        slope = -grad * inverse.pow(3) / count
        scale, offset = per_channel(slope, x), per_channel(-slope * mean, x)
        return torch.addcmul(offset.to(x.dtype), x, scale.to(x.dtype)), None, None


def gate(value: Tensor, switch: Switch) -> Tensor:
    """Return `value` as a constant of the map: it passes derivatives, but no relevance."""
    out: Tensor = _Gate.apply(value, switch)  # type: ignore[no-untyped-call]
    return out


def entrance(image: Tensor, switch: Switch) -> Tensor:
    """Return a copy of `image`, a leaf, which a network may change in place."""
    out: Tensor = _Entrance.apply(image, switch)  # type: ignore[no-untyped-call]
    return out


def detour(
    value: Tensor,
    relevance: Relevance,
    switch: Switch,
    operands: tuple[Tensor, ...],
    *,
    in_place: bool = False,
) -> Tensor:
    """Return `value` with its derivative; relevance passes to `operands` instead.

    Args:
        value: the result of an operation; it is returned itself, unless it is a view.
        relevance: `relevance(grad, *operands)`, one entry per operand.
        switch: the engine's.
        operands: tensors that the rule needs, and that get relevance.
        in_place: the operation changed its operand, and `value` is that operand.
    """
    if not value.requires_grad:
        return value
    if value._is_view() and not in_place:
        view: Tensor = _ViewDetour.apply(  # type: ignore[no-untyped-call]
            value, relevance, switch, *operands
        )
        return view
    # The value stays the same, so its version counter is put back: autograd refuses a tensor that
    # has changed since an operation saved it.
    version = value._version
    out: Tensor = _Detour.apply(  # type: ignore[no-untyped-call]
        value, relevance, switch, *operands
    )
    torch._C._autograd._unsafe_set_version_counter((out,), (version,))
    return out


def batch_deviation(x: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """Return `inverse`, 1/sigma of each channel of `x`, differentiable in `x`."""
    out: Tensor = _BatchDeviation.apply(x, mean, inverse)  # type: ignore[no-untyped-call]
    return out


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Return `values` `(C,)` shaped to multiply `like`, `(N, C, *spatial)`."""
    return values.view(1, -1, *([1] * (like.ndim - 2)))
