"""Batch and instance normalisation with their derivatives written out.

On a CPU, torch 2.13 and 2.14 read the gradient of `native_batch_norm` in a wrong order if N is 1
and input and gradient have different memory orders, such as after `flatten(2).transpose(1, 2)`: the
error is as large as the gradient, and no message says so. Instance normalisation calls the same
kernel with N = 1, whatever the batch. Under `norm_derivatives` the values are torch's own, bit for
bit; the backward pass is computed here, from operations that do not depend on the memory order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ppi_med.saliency.engine.isolation import module_of
from ppi_med.saliency.engine.primitives import per_channel

_OF_MODULES = ("input", "running_mean", "running_var", "weight", "bias", "batch", "momentum", "eps")
_OF_TORCH = ("input", "weight", "bias", "running_mean", "running_var", "batch", "momentum", "eps")
_aten = torch.ops.aten
_BATCH: Mapping[Callable[..., Any], tuple[str, ...]] = {
    F.batch_norm: _OF_MODULES,
    **dict.fromkeys((torch.batch_norm, _aten.batch_norm.default), _OF_TORCH),
    **dict.fromkeys((torch.native_batch_norm, _aten.native_batch_norm.default), _OF_TORCH),
    _aten._native_batch_norm_legit.default: _OF_TORCH,
    _aten._native_batch_norm_legit_no_training.default: tuple(n for n in _OF_TORCH if n != "batch"),
}
_INSTANCE: Mapping[Callable[..., Any], tuple[str, ...]] = {
    F.instance_norm: _OF_MODULES,
    **dict.fromkeys((torch.instance_norm, _aten.instance_norm.default), _OF_TORCH),
}
_SAME_NAME = {"training": "batch", "use_input_stats": "batch"}


class norm_derivatives(TorchFunctionMode):  # noqa: N801
    """Context in which batch and instance normalisation have right derivatives, also for N = 1.

    The methods of this package enter it themselves. In your own training loop, enter it for the
    forward passes; the backward pass may follow outside.

    Examples:
        >>> norm = torch.nn.BatchNorm2d(3).eval()
        >>> image = torch.ones(1, 3, 2, 2, requires_grad=True)
        >>> with norm_derivatives():
        ...     tokens = norm(image).flatten(2).transpose(1, 2)
        >>> (slope,) = torch.autograd.grad(tokens[:, 0].sum(), image)
        >>> slope[0, :, 0, 0].gt(0.9).all().item(), slope[0, :, 1].any().item()
        (True, False)
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if (func in _BATCH or func in _INSTANCE) and torch.is_grad_enabled():
            return _normalised(func, args, kwargs)
        return func(*args, **kwargs)


def scripted_norm_derivatives(network: Callable[..., Any]) -> AbstractContextManager[Any]:
    """Return a context for `torch.autograd.grad` of a network that may hold TorchScript.

    No mode sees the forward of TorchScript. Here torch's own backward gets both operands in one
    order. This slows every operation of the backward, so it is used for such networks only.
    """
    module = module_of(network)
    scripted = module is not None and any(
        isinstance(part, torch.jit.ScriptModule) for part in module.modules()
    )
    return _InOneOrder() if scripted else nullcontext()  # type: ignore[no-untyped-call]


class _InOneOrder(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is _aten.native_batch_norm_backward.default:
            ordered = (t.clone(memory_format=torch.contiguous_format) for t in args[:2])
            args = (*ordered, *args[2:])
        return func(*args, **(kwargs or {}))


def arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a normalisation by name; its functions have different orders.

    `batch` says whether the statistics are those of the input.
    """
    names = _BATCH.get(function) or _INSTANCE[function]
    given = dict.fromkeys(_OF_TORCH) | {"batch": function in _INSTANCE, "eps": 1e-5}
    given |= dict(zip(names, args, strict=False))
    given |= {_SAME_NAME.get(name, name): value for name, value in kwargs.items()}
    if given["running_mean"] is None or given["running_var"] is None:
        given["batch"] = True
    return given


def _normalised(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given, instance = arguments(function, args, kwargs), function in _INSTANCE
    x, eps = given["input"], given["eps"]
    # For two or more images torch's own kernel is right, and quicker.
    right = given["batch"] and not instance and x.shape[0] > 1
    if right or torch._C._are_functorch_transforms_active():
        return function(*args, **kwargs)
    statistics = (None, None)
    if not given["batch"]:
        statistics = given["running_mean"].clone(), (given["running_var"] + eps).rsqrt()
    further: list[Any] = []

    def run() -> Tensor:
        out = function(*args, **kwargs)
        if isinstance(out, Tensor):
            return out
        further.extend(out[1:])
        first: Tensor = out[0]
        return first

    axes = (*(() if instance else (0,)), *range(2, x.ndim))
    out = _Normalised.apply(  # type: ignore[no-untyped-call]
        x, given["weight"], given["bias"], run, *statistics, axes, eps
    )
    return (out, *further) if further else out


class _Normalised(torch.autograd.Function):
    """(x - mean) / sigma * weight + bias, with given statistics, or those of x over `axes`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        run: Callable[[], Tensor],
        mean: Tensor | None,
        inverse: Tensor | None,
        axes: tuple[int, ...],
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.has_weight = weight is not None
        ctx.axes, ctx.eps, ctx.affine_dtype = axes, eps, None if bias is None else bias.dtype
        ctx.set_materialize_grads(False)
        return run()

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 8
        saved: Any = [None if t is None else t.as_subclass(Tensor) for t in ctx.saved_tensors]
        x, weight, mean, inverse = saved
        grad = wide(grad.as_subclass(Tensor))
        of_x = of_weight = of_bias = None
        if inverse is None:
            variance, mean = torch.var_mean(wide(x), ctx.axes, correction=0, keepdim=True)
            inverse = (variance + ctx.eps).rsqrt()
            normal = (wide(x) - mean) * inverse
            scaled = grad if weight is None else grad * per_channel(weight, x)
            along = normal * (scaled * normal).mean(ctx.axes, keepdim=True)
            of_x = inverse * (scaled - scaled.mean(ctx.axes, keepdim=True) - along)
        elif _asked_for(ctx, 0):
            of_x = grad * per_channel(inverse if weight is None else inverse * weight, x)
        channels = (0, *range(2, x.ndim))
        if ctx.has_weight and _asked_for(ctx, 1):
            if mean.ndim == 1:
                normal = (wide(x) - per_channel(mean, x)) * per_channel(inverse, x)
            of_weight = (grad * normal).sum(channels).to(weight.dtype)
        if ctx.needs_input_grad[2] and _asked_for(ctx, 1 + ctx.has_weight):
            of_bias = grad.sum(channels).to(ctx.affine_dtype)
        return None if of_x is None else of_x.to(x.dtype), of_weight, of_bias, *(None,) * 5


def _asked_for(ctx: Any, operand: int) -> bool:
    """Say whether this backward pass needs the gradient of a tensor; a map needs the input's."""
    node = ctx.next_functions[operand][0]
    try:
        return node is not None and bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf that autograd.grad itself was given
        return True


def wide(x: Tensor) -> Tensor:
    """Return half precision as single precision, which torch's kernels use for statistics."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
