"""Convolutions whose relevance can be differentiated at the cost of convolutions.

Autograd's second derivative of a convolution computes the gradient of the weight as a convolution
with a kernel as large as the image, about three times as slow as the ordinary gradient. So a
trained convolution passes relevance back by its own function, whose derivatives are the ordinary
ones. The first trained convolution gets its input detached: otherwise a trainer's `backward` would
pass a derivative on to the image, at full resolution, that nothing reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.saliency.engine.call import Call
from ppi_med.saliency.engine.primitives import Relevance
from ppi_med.saliency.engine.roles import Role, is_untouched, role_of

# stride, padding, dilation, transposed, output padding, groups, in the order of aten.
_Settings = tuple[list[int], list[int], list[int], bool, list[int], int]


class _PassedBack(torch.autograd.Function):
    """The transpose of a convolution, W^T g, as a function of g and W."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, weight: Tensor, x: Tensor, settings: _Settings) -> Tensor:
        ctx.save_for_backward(grad, weight)
        ctx.settings = settings
        stride, padding, dilation, transposed, _, groups = settings
        if not transposed and suits(x, weight, groups):
            return image_gradient(grad, weight, x.shape, stride, padding, dilation)
        passed: Tensor = torch.ops.aten.convolution_backward(
            grad, x, weight, None, *settings, [True, False, False]
        )[0]
        return passed

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        grad, weight = ctx.saved_tensors
        of_grad = of_weight = None
        if ctx.needs_input_grad[0]:
            of_grad = torch.ops.aten.convolution(outer, weight, None, *ctx.settings)
        if ctx.needs_input_grad[1]:
            of_weight = torch.ops.aten.convolution_backward(
                grad, outer, weight, None, *ctx.settings, [False, True, False]
            )[1]
        return of_grad, of_weight, None, None


def convolution(call: Call) -> Tensor | None:
    """Run a trained convolution of the signal; None: another rule applies."""
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    if call.collecting or role_of(x) is not Role.SIGNAL or not torch.is_grad_enabled():
        return None
    constant = role_of(weight) is None and role_of(bias) is None
    settings = _settings(call, weight.ndim - 2)
    if not constant or not weight.requires_grad or x.ndim != weight.ndim or settings is None:
        return None
    out: Tensor = (call.with_first(x.detach()) if is_untouched(x) else call).run()
    return call.detour(out, _rule(settings), x, weight)


def _rule(settings: _Settings) -> Relevance:
    def relevance(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, None]:
        weight = weight.to(grad.dtype)
        passed: Tensor = _PassedBack.apply(  # type: ignore[no-untyped-call]
            grad, weight, x.detach().to(grad.dtype), settings
        )
        return passed.to(x.dtype), None

    return relevance


def _settings(call: Call, dims: int) -> _Settings | None:
    stride, padding = call.argument(3, "stride", 1), call.argument(4, "padding", 0)
    transposed = "transpose" in call.name
    if transposed:
        output_padding = call.argument(5, "output_padding", 0)
        groups, dilation = call.argument(6, "groups", 1), call.argument(7, "dilation", 1)
    else:
        output_padding = 0
        dilation, groups = call.argument(5, "dilation", 1), call.argument(6, "groups", 1)
    if isinstance(padding, str):
        return None
    lists = [_for_each(value, dims) for value in (stride, padding, dilation, output_padding)]
    return lists[0], lists[1], lists[2], transposed, lists[3], groups


def _for_each(value: Any, dims: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values


def first_linear(call: Call) -> Tensor | None:
    """Run `linear` where it is the first layer that is trained; None: it is not."""
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    bias = call.argument(2, "bias")
    if call.collecting or role_of(x) is not Role.SIGNAL or not is_untouched(x):
        return None
    trained = any(isinstance(p, Tensor) and p.requires_grad for p in (weight, bias))
    if not trained or role_of(weight) is not None or role_of(bias) is not None:
        return None  # if nothing is trained there is no graph yet, and torch's own function applies
    if not torch.is_grad_enabled():
        return None
    out: Tensor = call.with_first(x.detach()).run()
    return call.detour(out, _linear_rule, x, weight)


def _linear_rule(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, None]:
    return (grad @ weight.to(grad.dtype)).to(x.dtype), None


MOST_CHANNELS = 4
# Patches of a few images at a time stay in the processor's cache.
_IMAGES_AT_A_TIME = 4


def suits(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Say whether `image_gradient` applies to a convolution of `x`, `(N, C, H, W)`."""
    return (
        x.device.type == "cpu"
        and x.ndim == weight.ndim == 4
        and weight.shape[1] <= MOST_CHANNELS
        and groups == 1
        and weight.dtype in (torch.float32, torch.float64)
    )


def image_gradient(
    grad: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Return W^T g: the transpose of a two-dimensional convolution, applied to `grad`.

    Args:
        grad: gradient of the convolution's output, `(N, K, h, w)`.
        weight: `(K, C, kh, kw)`.
        size: size of the convolution's input, `(N, C, H, W)`.
        stride: stride of the convolution, one number per axis.
        padding: likewise.
        dilation: likewise.

    Returns:
        `(N, C, H, W)`.

    Examples:
        >>> grad, weight = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 2, 2)
        >>> image_gradient(grad, weight, (1, 1, 2, 2), (1, 1), (0, 0), (1, 1))
        tensor([[[[1., 1.],
                  [1., 1.]]]])
    """
    transposed = weight.flatten(1).t()
    some = [
        F.fold(
            transposed @ part.flatten(2),
            output_size=(size[2], size[3]),
            kernel_size=(weight.shape[2], weight.shape[3]),
            dilation=tuple(dilation),
            padding=tuple(padding),
            stride=tuple(stride),
        )
        for part in grad.split(_IMAGES_AT_A_TIME)
    ]
    return torch.cat(some)
