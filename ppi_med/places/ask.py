"""Where a shortly trained network looks: the signed difference map, and its top."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from ppi_med.intervention.smoothing import gaussian_smooth
from ppi_med.places.stack import ImageStack
from ppi_med.saliency import WBP

_NOTHING = 1e-3
_SIDE = 64.0


def other_means(stack: ImageStack) -> Tensor:
    """Return the mean image of all other classes for each class, `(K, C, H, W)` float32."""
    sums = torch.zeros(stack.classes, *stack.image.shape[1:])
    counts = torch.zeros(stack.classes)
    for part in stack.batches(256):
        label = stack.label[part]
        sums.index_add_(0, label, stack.image[part].float().cpu())
        counts.index_add_(0, label, torch.ones(len(label)))
    rest = sums.sum(0, keepdim=True) - sums
    return rest / (counts.sum() - counts).clamp_min(1).view(-1, 1, 1, 1)


def difference_map(
    network: nn.Module,
    stack: ImageStack,
    *,
    every: int = 3,
    batch_size: int = 64,
    target: Callable[[Tensor], Any] | None = None,
) -> Tensor:
    r"""Return what an exchange with another class would remove from the true class, to first order.

    .. math::
        m = \mathrm{relu}\Big(G_\sigma * \mathrm{mean}_i
        \big[ W_i (x_i - \mu_{\mathrm{other}}) / \|s_i\|_1 \big]\Big), \quad W = s / x

    with s the WBP map of the true class. The images are read batch by batch; the mean of all
    channels' sums is kept alone.

    Args:
        network: in evaluation mode; `(N, C, H, W)` to one logit, or one per class.
        stack: stack of the training part.
        every: only every k-th position is used.
        batch_size: images per forward pass.
        target: label -> target of the map; default the label.

    Returns:
        The map, float64 `(H, W)`, 0 or more.
    """
    asked = (stack.position % every == 0).nonzero()[:, 0] if stack.volumes else None
    if asked is None or len(asked) == 0:
        asked = torch.arange(len(stack.image))
    total = torch.zeros(stack.image.shape[2:], dtype=torch.float64)
    for gone in _gone(network, stack, asked, batch_size, target):
        total += gone.sum((0, 1)).double().cpu()
    mean = (total / len(asked))[None, None]
    return gaussian_smooth(mean, scale(mean.shape[-2:]))[0, 0].clamp_min(0)


def evidence(
    network: nn.Module, stack: ImageStack, index: Tensor, *, batch_size: int = 64
) -> Tensor:
    """Return each image's own part of the difference map, smoothed, float32 `(N, H, W)`.

    Args:
        network: as for `difference_map`.
        stack: stack of the training part.
        index: which images.
        batch_size: images per forward pass.
    """
    sigma = scale(stack.image.shape[-2:])
    parts = _gone(network, stack, index, batch_size, None)
    return torch.cat(
        [gaussian_smooth(one.sum(1, keepdim=True), sigma)[:, 0].float().cpu() for one in parts]
    )


def _gone(
    network: nn.Module,
    stack: ImageStack,
    index: Tensor,
    batch_size: int,
    target: Callable[[Tensor], Any] | None,
) -> Iterator[Tensor]:
    """Yield W (x - mu) / ||s||_1 of the images, `(N, C, H, W)`, batch by batch."""
    means = other_means(stack)
    method = WBP()
    device = next(network.parameters()).device
    for part in index.split(batch_size):
        x, label = stack.image[part].to(device), stack.label[part].to(device)
        s = method(network, x, label if target is None else target(label))
        weight = torch.where(x.abs() > _NOTHING, s / x, torch.zeros_like(s))
        size = s.abs().sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
        yield (weight * (x - means[stack.label[part]].to(x)) / size).detach()


def scale(shape: tuple[int, ...] | torch.Size) -> float:
    """Return how large a pixel of the recipe is in an image of this shape: 1 up to 64 pixels.

    >>> scale((64, 80)), scale((224, 224))
    (1.0, 3.5)
    """
    return max(1.0, min(shape[-2:]) / _SIDE)


def top_place(
    difference: Tensor,
    *,
    share: float = 0.03,
    relative: float = 0.15,
    grow: float = 2.0,
    without: Tensor | None = None,
) -> Tensor:
    """Return the place of a map: its top, grown.

    Args:
        difference: map `(H, W)`, 0 or more.
        share: share of the image's pixels that the top has at most.
        relative: part of the map's maximum that a pixel of the top reaches.
        grow: pixels of an image 64 pixels high that the top grows to each side; larger images
            have more.
        without: bool `(H, W)`, found before: neither asked nor part of the place.

    Returns:
        bool `(H, W)`; empty where the map is.

    Examples:
        >>> m = torch.zeros(9, 9)
        >>> m[4, 4] = 1.0
        >>> top_place(m, share=0.1, grow=1).sum().item()
        9
    """
    left = difference if without is None else difference.masked_fill(without, 0.0)
    count = max(1, round(share * left.numel()))
    least = torch.topk(left.flatten(), min(count, left.numel())).values[-1]
    top = (left >= least) & (left >= relative * left.max()) & (left > 0)
    radius = math.ceil(grow * scale(left.shape) - 1e-9)
    grown = max_pool2d(top[None, None].float(), 2 * radius + 1, 1, radius)[0, 0] > 0
    return grown if without is None else grown & ~without
