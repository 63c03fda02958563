"""The gradient of an image through a convolution with few input channels, on a CPU.

A plain training step never asks for it: the image is data. A map does, and so do losses that train
through the altered images. oneDNN's kernels are made for many channels; for one to four a matrix
product and a sum of shifted patches (col2im) take a third to two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_CHANNELS = 4
# Patches of a few images at a time stay in the processor's cache.
_IMAGES_AT_A_TIME = 4


def suits(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Say whether :func:`image_gradient` serves a convolution of ``x``, ``(N, C, H, W)``."""
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
    """Return W^T g: the transpose of a two-dimensional convolution, applied to ``grad``.

    Args:
        grad: of the convolution's output, ``(N, K, h, w)``.
        weight: ``(K, C, kh, kw)``.
        size: of the convolution's input, ``(N, C, H, W)``.
        stride: of the convolution, one number an axis.
        padding: likewise.
        dilation: likewise.

    Returns:
        ``(N, C, H, W)``.

    Example:
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
