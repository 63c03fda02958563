"""Autograd functions with two behaviours: the rule while a map is computed, else the derivative.

Each is given the engine's :class:`Switch`. It is an object and not a thread-local: on CUDA the
backward pass runs in threads of its own.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ppi_med.saliency.activations import Activation


class Switch:
    """On while a map is computed: relevance rules replace derivatives."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *exc: object) -> None:
        self.on = False


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, switch: Switch) -> Tensor:
        ctx.switch = switch
        ctx.set_materialize_grads(False)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None]:
        return (None if ctx.switch.on else grad), None


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, formula: Activation, switch: Switch) -> Tensor:
        ctx.formula, ctx.switch = formula, switch
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return formula.value(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None]:
        if grad is None:
            return None, None, None
        (x,) = ctx.saved_tensors
        if ctx.switch.on:
            return (grad * ctx.formula.ratio(x)).to(x.dtype), None, None
        return ctx.formula.backward(grad, x), None, None


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
        scale, offset = _per_channel(slope, x), _per_channel(slope * mean, x)
        return torch.addcmul(-offset.to(x.dtype), x, scale.to(x.dtype)), None, None


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None],
        momentum: float,
        eps: float,
        switch: Switch,
    ) -> Tensor:
        y, mean, inverse = torch.native_batch_norm(
            x, weight, bias, running[0], running[1], True, momentum, eps
        )
        ctx.eps, ctx.switch = eps, switch
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        x, weight, mean, inverse = ctx.saved_tensors
        if ctx.switch.on:
            if torch.is_grad_enabled():
                inverse = _BatchDeviation.apply(x, mean, inverse)  # type: ignore[no-untyped-call]
            scale = inverse if weight is None else inverse * weight
            return (grad * _per_channel(scale, x).to(grad.dtype), *((None,) * 6))
        needed = [bool(n) for n in ctx.needs_input_grad[:3]]
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse, True, ctx.eps, needed
        )
        return (*(g if n else None for g, n in zip(grads, needed, strict=True)), *((None,) * 4))


class _Unruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, operation: str, where: str, switch: Switch) -> Tensor:
        ctx.operation, ctx.where, ctx.switch = operation, where, switch
        ctx.set_materialize_grads(False)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        if grad is not None and ctx.switch.on:
            _refuse(ctx.operation, ctx.where)
        return grad, None, None, None


class UnsupportedOperationError(RuntimeError):
    """Relevance reached an operation that is not linear and has no rule."""


def _refuse(operation: str, where: str) -> NoReturn:
    raise UnsupportedOperationError(
        f"no relevance rule for the operation '{operation}' in {where}: it is not linear in its "
        "input; give the function a `saliency_surrogate`, or explain a target before it"
    )


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *([1] * (like.ndim - 2)))


def gate(value: Tensor, switch: Switch) -> Tensor:
    """Return ``value`` as a constant of the map: it passes derivatives, but no relevance."""
    out: Tensor = _Gate.apply(value, switch)  # type: ignore[no-untyped-call]
    return out


def activation(x: Tensor, formula: Activation, switch: Switch) -> Tensor:
    """Return f(x); relevance passes as ``h(x) = (f(x) - f(0)) / x``."""
    out: Tensor = _Activation.apply(x, formula, switch)  # type: ignore[no-untyped-call]
    return out


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor | None, Tensor | None],
    momentum: float,
    eps: float,
    switch: Switch,
) -> Tensor:
    """BatchNorm on batch statistics, ``(N, C, *spatial)``; relevance passes as gamma / sigma."""
    out: Tensor = _BatchNorm.apply(x, weight, bias, running, momentum, eps, switch)  # type: ignore[no-untyped-call]
    return out


def unruled(value: Tensor, operation: str, where: str, switch: Switch) -> Tensor:
    """Return ``value``; relevance that reaches it raises :class:`UnsupportedOperationError`."""
    out: Tensor = _Unruled.apply(value, operation, where, switch)  # type: ignore[no-untyped-call]
    return out


class _Surrogate(torch.autograd.Function):
    """The value and derivative of one tensor, the relevance of another."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor, switch: Switch) -> Tensor:
        ctx.switch = switch
        ctx.set_materialize_grads(False)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        return (None, grad, None) if ctx.switch.on else (grad, None, None)


def surrogate(value: Tensor, explained: Tensor, switch: Switch) -> Tensor:
    """Return ``value`` with its derivative; relevance passes to ``explained`` instead."""
    out: Tensor = _Surrogate.apply(value, explained, switch)  # type: ignore[no-untyped-call]
    return out
