"""Normalisation: which statistics are constants of the map, and which are part of it.

BatchNorm in training: the batch's mean and sigma are constants, relevance passes as gamma/sigma.
Layer-, Group-, InstanceNorm: 1/sigma is a rescaling (constant), subtracting the mean is linear.
With running statistics every one of them is affine, and autograd is the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node

from ppi_med.saliency.call import Call
from ppi_med.saliency.primitives import Relevance, batch_deviation, per_channel


def batch_norm(call: Call) -> Tensor:
    """``F.batch_norm`` with running or batch statistics, ``(N, C, *spatial)``."""
    eps = call.argument(7, "eps", 1e-5)
    training = call.argument(5, "training", False)
    if call.collecting:
        return _explicit_batch_norm(call, training, eps)
    out: Tensor = call.run()
    if not training or not out.requires_grad:
        return out
    x, weight = call.argument(0, "input"), call.argument(3, "weight")
    return call.detour(out, _batch_norm_rule(out.grad_fn, eps), x, weight)


def _batch_norm_rule(node: Node | None, eps: float) -> Relevance:
    def relevance(
        grad: Tensor, x: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        mean, inverse = _batch_statistics(node, x, eps)
        if torch.is_grad_enabled():
            inverse = batch_deviation(x, mean, inverse)
        scale = inverse if weight is None else inverse * weight
        passed = grad * per_channel(scale, x).to(grad.dtype)
        return (passed,) if weight is None else (passed, None)

    return relevance


def _batch_statistics(node: Node | None, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and 1/sigma of each channel: those that the forward has kept, if it has."""
    mean, inverse = getattr(node, "_saved_result1", None), getattr(node, "_saved_result2", None)
    if isinstance(mean, Tensor) and isinstance(inverse, Tensor) and mean.numel() == x.shape[1]:
        return mean.detach(), inverse.detach()
    wide = _wide(x.detach())
    axes = [0, *range(2, x.ndim)]
    variance, mean = torch.var_mean(wide, axes, correction=0)
    return mean, (variance + eps).rsqrt()


def _explicit_batch_norm(call: Call, training: bool, eps: float) -> Tensor:
    """Scale and shift written out, so that the shift can be kept as a constant."""
    x = call.argument(0, "input")
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    if training or mean is None or variance is None:
        variance, mean = torch.var_mean(x.detach(), [0, *range(2, x.ndim)], correction=0)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    shift = -mean * scale if bias is None else bias.detach() - mean * scale
    shift = per_channel(shift, x).expand_as(x).to(x.dtype)
    return x * per_channel(scale, x) + call.constant(shift)  # type: ignore[no-any-return]


def layer_norm(call: Call) -> Tensor:
    """``F.layer_norm`` over the last axes."""
    x, shape = call.argument(0, "input"), call.argument(1, "normalized_shape")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    eps = call.argument(4, "eps", 1e-5)
    rule = _scaling_rule(_last(x, shape), eps, centre=True)
    if not call.collecting:
        return call.detour(call.run(), rule, x, weight)
    out = call.detour(F.layer_norm(x, shape, weight, None, eps), rule, x, weight)
    return out if bias is None else out + call.constant(bias.expand_as(out))


def rms_norm(call: Call) -> Tensor:
    """``F.rms_norm`` over the last axes: no mean is subtracted."""
    x, eps = call.argument(0, "input"), call.argument(3, "eps")
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    rule = _scaling_rule(_last(x, call.argument(1, "normalized_shape")), eps, centre=False)
    return call.detour(call.run(), rule, x, call.argument(2, "weight"))


def group_norm(call: Call) -> Tensor:
    """``F.group_norm``, ``(N, C, *spatial)``."""
    x, groups = call.argument(0, "input"), call.argument(1, "num_groups")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    eps = call.argument(4, "eps", 1e-5)
    rule = _channel_rule((x.shape[0], groups, -1), eps)
    if not call.collecting:
        return call.detour(call.run(), rule, x, weight)
    out = call.detour(F.group_norm(x, groups, weight, None, eps), rule, x, weight)
    return _plus_channels(call, out, bias)


def instance_norm(call: Call) -> Tensor:
    """``F.instance_norm``, ``(N, C, *spatial)``; with running statistics it is affine."""
    x, weight, bias = (
        call.argument(0, "input"),
        call.argument(3, "weight"),
        call.argument(4, "bias"),
    )
    eps = call.argument(7, "eps", 1e-5)
    if not call.argument(5, "use_input_stats", True):
        if call.collecting:
            return _explicit_batch_norm(call, False, eps)
        out: Tensor = call.run()
        return out
    rule = _channel_rule((*x.shape[:2], -1), eps)
    if not call.collecting:
        return call.detour(call.run(), rule, x, weight)
    out = call.detour(F.instance_norm(x, weight=weight, eps=eps), rule, x, weight)
    return _plus_channels(call, out, bias)


def normalize(call: Call) -> Tensor:
    """``F.normalize``: x / max(||x||_p, eps), the norm being a rescaling."""
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
    """Rule of a norm over groups of channels or single channels, with one weight a channel."""

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
    """Pass ``grad`` back through (x - mean) / sigma or x / rms, with sigma a constant."""
    wide, passed = _wide(x), _wide(grad)
    mean_square: Callable[..., Tensor] = _variance if centre else _mean_square
    passed = passed * (mean_square(wide, axes) + eps).rsqrt()
    if centre:
        passed = passed - passed.mean(axes, keepdim=True)
    return passed.to(x.dtype)


def _variance(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.var(axes, correction=0, keepdim=True)


def _mean_square(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.square().mean(axes, keepdim=True)


def _wide(x: Tensor) -> Tensor:
    # Statistics of half precision in single precision, as torch's own kernels take them.
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _last(x: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(x.ndim - len(shape), x.ndim))


def _plus_channels(call: Call, out: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return out
    return out + call.constant(per_channel(bias, out).expand_as(out))
