"""Normalisation: which statistics are constants of the map, and which are part of it.

BatchNorm in training: the batch's mean and sigma are constants, relevance passes as gamma/sigma.
Layer-, Group-, InstanceNorm: 1/sigma is a rescaling (constant), subtracting the mean is linear.
With running statistics every one of them is affine, and autograd is the rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppi_med.saliency import primitives
from ppi_med.saliency.engine import Call


def batch_norm(call: Call) -> Tensor:
    """``F.batch_norm`` with running or batch statistics, ``(N, C, *spatial)``."""
    x = call.args[0]
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    training, momentum = call.argument(5, "training", False), call.argument(6, "momentum", 0.1)
    eps = call.argument(7, "eps", 1e-5)
    if call.forward.constants is not None:
        return _explicit_batch_norm(call, x, mean, variance, weight, bias, training, eps)
    if not training:
        return call.run()  # type: ignore[no-any-return]
    return primitives.batch_norm(x, weight, bias, (mean, variance), momentum, eps, call.switch)


def _explicit_batch_norm(
    call: Call,
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    eps: float,
) -> Tensor:
    """Scale and shift written out, so that the shift can be kept as a constant."""
    if training or mean is None or variance is None:
        axes = [0, *range(2, x.ndim)]
        detached = x.detach()
        mean, variance = detached.mean(axes), detached.var(axes, unbiased=False)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    shift = -mean * scale if bias is None else bias.detach() - mean * scale
    shape = (1, -1, *([1] * (x.ndim - 2)))
    return x * scale.view(shape) + call.constant(shift.view(shape).expand_as(x).to(x.dtype))


def layer_norm(call: Call) -> Tensor:
    """``F.layer_norm`` over the last axes."""
    x, shape = call.args[0], call.argument(1, "normalized_shape")
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    eps = call.argument(4, "eps", 1e-5)
    scaled = _standardised(call, x, axes, eps, centre=True)
    return _affine(call, scaled, call.argument(2, "weight"), call.argument(3, "bias"), x)


def rms_norm(call: Call) -> Tensor:
    """``F.rms_norm`` over the last axes: no mean is subtracted."""
    x, shape = call.args[0], call.argument(1, "normalized_shape")
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    eps = call.argument(3, "eps")
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _affine(
        call, _standardised(call, x, axes, eps, centre=False), call.argument(2, "weight"), None, x
    )


def group_norm(call: Call) -> Tensor:
    """``F.group_norm``, ``(N, C, *spatial)``."""
    x, groups = call.args[0], call.argument(1, "num_groups")
    grouped = x.reshape(x.shape[0], groups, -1)
    scaled = _standardised(call, grouped, (2,), call.argument(4, "eps", 1e-5), centre=True)
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    weight, bias = _channels(x, weight), _channels(x, bias)
    return _affine(call, scaled.reshape(x.shape), weight, bias, x)


def instance_norm(call: Call) -> Tensor:
    """``F.instance_norm``, ``(N, C, *spatial)``; with running statistics it is affine."""
    x = call.args[0]
    running_mean, running_var = call.argument(1, "running_mean"), call.argument(2, "running_var")
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    eps = call.argument(7, "eps", 1e-5)
    if not call.argument(5, "use_input_stats", True):
        args = (x, running_mean, running_var, weight, bias, False, eps)
        return (
            _explicit_batch_norm(call, *args) if call.forward.constants is not None else call.run()
        )
    if running_mean is not None:
        with torch.no_grad():  # the buffers move as they would without a map
            call.function(x.detach(), *call.args[1:], **call.kwargs)
    scaled = _standardised(call, x, tuple(range(2, x.ndim)), eps, centre=True)
    return _affine(call, scaled, _channels(x, weight), _channels(x, bias), x)


def normalize(call: Call) -> Tensor:
    """``F.normalize``: x / max(||x||_p, eps), the norm being a rescaling."""
    x = call.args[0]
    p, dim, eps = (
        call.argument(1, "p", 2.0),
        call.argument(2, "dim", 1),
        call.argument(3, "eps", 1e-12),
    )
    norm = torch.linalg.vector_norm(x, p, dim, keepdim=True).clamp_min(eps)
    return x / call.gate(norm)  # type: ignore[no-any-return]


def _standardised(
    call: Call, x: Tensor, axes: tuple[int, ...], eps: float, *, centre: bool
) -> Tensor:
    # Statistics of half precision in single precision, as torch's own kernels take them.
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if centre:
        wide = wide - wide.mean(axes, keepdim=True)
    inverse = (wide.square().mean(axes, keepdim=True) + eps).rsqrt()
    return wide * call.gate(inverse)


def _affine(
    call: Call, scaled: Tensor, weight: Tensor | None, bias: Tensor | None, like: Tensor
) -> Tensor:
    if weight is not None:
        scaled = scaled * weight
    if bias is not None:
        scaled = scaled + call.constant(bias.expand_as(scaled))
    # Autocast's layer_norm and group_norm answer in single precision.
    return scaled if torch.is_autocast_enabled(like.device.type) else scaled.to(like.dtype)


def _channels(x: Tensor, parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.view(1, -1, *([1] * (x.ndim - 2)))
