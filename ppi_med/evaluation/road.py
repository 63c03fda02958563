"""ROAD (Rong et al., 2022) and ROAR (Hooker et al., 2019): removal without edges, or retraining.

A hole filled with zeros tells its shape. ROAD fills removed pixels with a noisy weighted mean of
their neighbours; ROAR trains a new network on altered images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.evaluation.faithfulness import Curve
from ppi_med.evaluation.measures import Measure, Network, Score, class_is_predicted, ranks

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
ROAD_HIGHEST = Measure("road_highest_first", -1)
ROAD_LOWEST = Measure("road_lowest_first", 1)
ROAR = Measure("roar", -1)

# Alters images by maps: removes this share of the pixels, given images and values (N, *spatial).
Removal = Callable[[Tensor, Tensor], Tensor]


def impute(image: Tensor, removed: Tensor, *, noise: float = 0.0, seed: int = 0) -> Tensor:
    """Fill pixels so that each is the weighted mean of its neighbours, plus noise.

    x_i = sum_j w_ij x_j / sum_j w_ij over the neighbours inside the image, w = 1 / distance^2:
    one linear system an image, solved by conjugate gradients for the whole batch on its device.
    Where nothing is left of an image it becomes 0.

    Args:
        image: ``(N, C, *spatial)``.
        removed: ``(N, *spatial)``, boolean.
        noise: standard deviation of normal noise on the filled pixels (default 0).
        seed: of the noise.

    Returns:
        Images of the same shape.

    Examples:
        >>> row = torch.tensor([[[1.0, 9.0, 3.0]]])
        >>> impute(row, torch.tensor([[False, True, False]])).tolist()
        [[[1.0, 2.0, 3.0]]]
    """
    hole = removed.unsqueeze(1).to(image.dtype).expand_as(image)
    known = image * (1 - hole)
    kernel = _neighbours(image)
    degree = _spread(torch.ones_like(image[:1, :1]), kernel)

    def system(x: Tensor) -> Tensor:
        return hole * (degree * x - _spread(x, kernel))

    filled = _conjugate_gradients(system, hole * _spread(known, kernel))
    if noise > 0:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(image.shape, generator=generator).to(image.device, image.dtype)
        filled = filled + noise * drawn
    return torch.where(removed.unsqueeze(1), filled, image)


def remove_share(
    share: float, *, highest: bool = True, noise: float = 0.0, seed: int = 0
) -> Removal:
    """Return a removal of this share of the pixels, from the highest or the lowest on."""
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, expected a number in [0, 1]")

    def removal(image: Tensor, values: Tensor) -> Tensor:
        count = round(share * values[0].numel())
        place = ranks(values if highest else -values)
        return impute(image, place < count, noise=noise, seed=seed) if count else image

    return removal


@torch.no_grad()
def road_curve(
    network: Network,
    image: Tensor,
    target: Tensor,
    values: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    highest: bool = True,
    noise: float = 0.01,
    seed: int = 0,
    score: Score = class_is_predicted,
) -> Curve:
    """Remove growing shares of the pixels, filled by :func:`impute`, and look at the score.

    Args:
        network: from images to logits.
        image: ``(N, C, *spatial)``.
        target: class indices ``(N,)``.
        values: ``(N, *spatial)``.
        shares: of the pixels; 0 is added.
        highest: remove the highest first (a good map loses the score early), or the lowest.
        noise: see :func:`impute` (default 0.01).
        seed: of the noise.
        score: from output and target to ``(N,)`` (default 1 where the target is predicted, so
            that the mean over images is the accuracy).
    """
    pixels, found = values[0].numel(), []
    shares = (0.0, *sorted(share for share in shares if share > 0))
    for share in shares:
        removal = remove_share(share, highest=highest, noise=noise, seed=seed)
        found.append(score(network(removal(image, values)), target))
    counts = tuple(round(share * pixels) for share in shares)
    return Curve(ROAD_HIGHEST if highest else ROAD_LOWEST, counts, pixels, torch.stack(found, 1))


def roar_curve(
    retrain: Callable[[Removal], float],
    *,
    shares: Sequence[float] = SHARES,
    resolution: int = 10_000,
    fill: Removal | None = None,
) -> Curve:
    """Train anew on images without their highest pixels: what still can be learned was not removed.

    Args:
        retrain: given a removal, apply it to training and test images with their maps, train a new
            network, return its accuracy on the altered test images.
        shares: of the pixels; 0, the ordinary training, is added.
        resolution: shares are written as counts of this many pixels.
        fill: a removal of all pixels, which stands for what removed ones become; None (default):
            each image's mean of each channel, as in the paper.

    Returns:
        A curve of one row.
    """
    shares = (0.0, *sorted(share for share in shares if share > 0))
    accuracies = [retrain(_replacing(share, fill)) for share in shares]
    counts = tuple(round(share * resolution) for share in shares)
    return Curve(ROAR, counts, resolution, torch.tensor([accuracies], dtype=torch.float64))


def _replacing(share: float, fill: Removal | None) -> Removal:
    def removal(image: Tensor, values: Tensor) -> Tensor:
        axes = tuple(range(2, image.ndim))
        empty = image.mean(axes, keepdim=True) if fill is None else fill(image, values)
        removed = ranks(values) < round(share * values[0].numel())
        return torch.where(removed.unsqueeze(1), empty.expand_as(image), image)

    return removal


def _neighbours(image: Tensor) -> Tensor:
    dims = image.ndim - 2
    kernel = torch.zeros([3] * dims, dtype=image.dtype, device=image.device)
    for offset in product((-1, 0, 1), repeat=dims):
        distance = sum(step * step for step in offset)
        if distance:
            kernel[tuple(step + 1 for step in offset)] = 1 / distance
    return kernel


def _spread(x: Tensor, kernel: Tensor) -> Tensor:
    """Sum the neighbours by weight; nothing lies outside of the image."""
    channels = x.shape[1]
    weight = kernel.expand(channels, 1, *kernel.shape)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[kernel.ndim - 1]
    return convolve(x, weight, padding=1, groups=channels)


def _conjugate_gradients(
    system: Callable[[Tensor], Tensor], right: Tensor, *, most: int = 2000
) -> Tensor:
    """Solve ``system(x) = right``, one system for each image and channel."""
    axes = tuple(range(2, right.ndim))
    tolerance = 100 * torch.finfo(right.dtype).eps

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(axes, keepdim=True)

    def ratio(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), torch.zeros_like(a))

    x, rest, way = torch.zeros_like(right), right, right
    size = inner(rest, rest)
    least = size * tolerance**2
    for _ in range(most):
        if bool((size <= least).all()):
            break
        image = system(way)
        step = ratio(size, inner(way, image))
        x, rest = x + step * way, rest - step * image
        before, size = size, inner(rest, rest)
        way = rest + ratio(size, before) * way
    return x
