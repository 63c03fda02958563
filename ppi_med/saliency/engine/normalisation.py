"""Normalisation: which statistics are constants of a map, and which are part of it.

BatchNorm in training: the batch's mean and sigma are constants, relevance passes as gamma/sigma.
Layer-, Group-, InstanceNorm: 1/sigma is a rescaling (constant), subtracting the mean is linear.
With running statistics every one of them is affine: relevance passes as gamma/sigma too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from ppi_med.saliency.engine.call import Call
from ppi_med.saliency.engine.norm_derivatives import arguments, wide
from ppi_med.saliency.engine.primitives import Relevance, batch_deviation, per_channel


def batch_norm(call: Call) -> Tensor:
    """`F.batch_norm` with running or batch statistics, `(N, C, *spatial)`."""
    return _affine(call, arguments(call.function, call.args, call.kwargs))


def _affine(call: Call, given: Mapping[str, Any]) -> Tensor:
    """Pass relevance as gamma / sigma; the shift beta - gamma mean / sigma is a constant."""
    out: Tensor = call.run()
    if not out.requires_grad:
        return out
    x, weight, eps = given["input"], given["weight"], given["eps"]
    fixed = None if given["batch"] else (given["running_var"] + eps).rsqrt()
    shift = None
    if call.collecting:
        mean, inverse = given["running_mean"], fixed
        if inverse is None:
            mean, inverse = _batch_statistics(out.grad_fn, x, eps)
        scale = inverse if weight is None else inverse * weight.detach()
        bias = 0.0 if given["bias"] is None else given["bias"].detach()
        shift = per_channel(bias - mean * scale, x)
    return call.detour(out, _affine_rule(fixed, out.grad_fn, eps), x, weight, constant=shift)


def _affine_rule(fixed: Tensor | None, node: Node | None, eps: float) -> Relevance:
    def relevance(
        grad: Tensor, x: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        inverse = fixed
        if inverse is None:
            mean, inverse = _batch_statistics(node, x, eps)
            if torch.is_grad_enabled():
                inverse = batch_deviation(x, mean, inverse)
        scale = inverse if weight is None else inverse * weight
        passed = grad * per_channel(scale, x).to(grad.dtype)
        return (passed,) if weight is None else (passed, None)

    return relevance


def _batch_statistics(node: Node | None, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and 1/sigma of each channel, from the forward if it has kept them."""
    mean, inverse = getattr(node, "_saved_result1", None), getattr(node, "_saved_result2", None)
    if isinstance(mean, Tensor) and isinstance(inverse, Tensor) and mean.numel() == x.shape[1]:
        return mean.detach(), inverse.detach()
    axes = [0, *range(2, x.ndim)]
    variance, mean = torch.var_mean(wide(x.detach()), axes, correction=0)
    return mean, (variance + eps).rsqrt()


def layer_norm(call: Call) -> Tensor:
    """`F.layer_norm` over the last axes."""
    x, shape = call.argument(0, "input"), call.argument(1, "normalized_shape")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    eps = call.argument(4, "eps", 1e-5)
    rule = _scaling_rule(_last(x, shape), eps, centre=True)
    return call.detour(call.run(), rule, x, weight, constant=bias)


def rms_norm(call: Call) -> Tensor:
    """`F.rms_norm` over the last axes: no mean is subtracted."""
    x, eps = call.argument(0, "input"), call.argument(3, "eps")
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    rule = _scaling_rule(_last(x, call.argument(1, "normalized_shape")), eps, centre=False)
    return call.detour(call.run(), rule, x, call.argument(2, "weight"))


def group_norm(call: Call) -> Tensor:
    """`F.group_norm`, `(N, C, *spatial)`."""
    x, groups = call.argument(0, "input"), call.argument(1, "num_groups")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    eps = call.argument(4, "eps", 1e-5)
    rule = _channel_rule((x.shape[0], groups, -1), eps)
    constant = None if bias is None else per_channel(bias, x)
    return call.detour(call.run(), rule, x, weight, constant=constant)


def instance_norm(call: Call) -> Tensor:
    """`F.instance_norm`, `(N, C, *spatial)`; with running statistics it is affine."""
    given = arguments(call.function, call.args, call.kwargs)
    if not given["batch"]:
        return _affine(call, given)
    x, weight, bias = given["input"], given["weight"], given["bias"]
    rule = _channel_rule((*x.shape[:2], -1), given["eps"])
    constant = None if bias is None else per_channel(bias, x)
    return call.detour(call.run(), rule, x, weight, constant=constant)


def normalize(call: Call) -> Tensor:
    """`F.normalize`: x / max(||x||_p, eps); the norm is a rescaling."""
    p, dim = call.argument(1, "p", 2.0), call.argument(2, "dim", 1)
    eps = call.argument(3, "eps", 1e-12)

    def relevance(grad: Tensor, x: Tensor) -> tuple[Tensor]:
        return (grad / torch.linalg.vector_norm(x, p, dim, keepdim=True).clamp_min(eps),)

    return call.detour(call.run(), relevance, call.argument(0, "input"))


def _scaling_rule(axes: tuple[int, ...], eps: float, *, centre: bool) -> Relevance:
    """Rule of a norm over the last axes, whose weight has their shape."""

    def relevance(
        grad: Tensor, x: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        grad = grad if weight is None else grad * weight
        passed = _rescaled(grad, x, axes, eps, centre=centre)
        return (passed,) if weight is None else (passed, None)

    return relevance


def _channel_rule(grouped: Sequence[int], eps: float) -> Relevance:
    """Rule of a norm over groups of channels or single channels, with one weight per channel."""

    def relevance(
        grad: Tensor, x: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        grad = grad if weight is None else grad * per_channel(weight, x)
        passed = _rescaled(grad.reshape(grouped), x.reshape(grouped), (2,), eps, centre=True)
        passed = passed.view(x.shape)
        return (passed,) if weight is None else (passed, None)

    return relevance


def _rescaled(
    grad: Tensor, x: Tensor, axes: tuple[int, ...], eps: float, *, centre: bool
) -> Tensor:
    """Pass `grad` back through (x - mean) / sigma or x / rms, with sigma a constant."""
    mean_square: Callable[..., Tensor] = _variance if centre else _mean_square
    passed = wide(grad) * (mean_square(wide(x), axes) + eps).rsqrt()
    if centre:
        passed = passed - passed.mean(axes, keepdim=True)
    return passed.to(x.dtype)


def _variance(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.var(axes, correction=0, keepdim=True)


def _mean_square(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.square().mean(axes, keepdim=True)


def _last(x: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(x.ndim - len(shape), x.ndim))
