"""The pass of altered images, whose gradient must reach the image if the map is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from ppi_med.saliency.engine.convolution import image_gradient, suits


@contextmanager
def fast_image_gradient(images: Tensor) -> Iterator[None]:
    """Let the first convolution pass the gradient of `images` back quickly, on a CPU.

    Values and gradients are as without it, up to rounding; see
    `ppi_med.saliency.engine.convolution`.
    """
    if not images.requires_grad or images.device.type != "cpu":
        yield
        return
    with _FirstConvolution():
        yield


class _FirstConvolution(TorchFunctionMode):
    """Replaces convolutions of images with few channels, which come first in a network."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.conv2d and (out := _convolved(*args, **(kwargs or {}))) is not None:
            return out
        return func(*args, **(kwargs or {}))


def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution with its own backward; None: torch's own serves."""
    if isinstance(padding, str) or not input.requires_grad or not suits(input, weight, groups):
        return None
    if torch.is_autocast_enabled("cpu"):
        return None
    settings = [_pair(stride), _pair(padding), _pair(dilation)]
    out: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
        input, weight, bias, settings
    )
    return out


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: list[list[int]]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        stride, padding, dilation = settings
        return torch.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            [weight.shape[0]],
            *ctx.settings,
            False,
            [0, 0],
            1,
            [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]],
        )
        of_image = image_gradient(grad, weight, x.shape, *ctx.settings)
        return of_image, of_weight, of_bias, None
