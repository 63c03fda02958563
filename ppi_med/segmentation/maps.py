"""The maps of a network for cases, on the pixels on which masks are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppi_med.segmentation.cases import View
from ppi_med.segmentation.masking import Values
from ppi_med.segmentation.windows import NetworkGrid

Normalise = Callable[[Tensor], Tensor]
Method = Callable[[Any, Tensor, Any], Tensor]


def normalised_ct(hu: Tensor) -> Tensor:
    """Return HU as the bundle `lidc_ppi` gives them to its networks: 0 is lung.

    Examples:
        >>> normalised_ct(torch.tensor([-2000.0, -850.0, 0.0])).tolist()
        [0.0, 0.0, 2.125]
    """
    values = (hu.clamp(-1000.0, 400.0) + 850.0) / 400.0
    return torch.where(hu <= -2000.0, torch.zeros_like(values), values)


def network_maps(
    network: nn.Module,
    method: Method,
    views: Sequence[View],
    grid: NetworkGrid,
    *,
    normalise: Normalise = normalised_ct,
    positive: int = 1,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> list[Values]:
    """Return the map of each view for the positive class, on the window's pixels.

    Args:
        network: images ``(N, 1, size, size)`` to logits; evaluated, left in the modes it was in.
        method: saliency by ``method(network, image, target)``; channels are summed.
        views: of cases.
        grid: of the network's images.
        normalise: from HU to the network's values, on the whole patch before it is resampled.
        positive: class that is explained, where there are two logits or more.
        batch_size: images at a time.
        device: where the network is.

    Returns:
        float64 ``(side, side)`` each.
    """
    score = positive_score(positive)
    found: list[Values] = []
    with evaluating(network):
        for start in range(0, len(views), batch_size):
            batch = views[start : start + batch_size]
            images = torch.stack([network_image(view, grid, normalise) for view in batch])
            maps = method(network, images.to(device), score).detach().sum(1, keepdim=True)
            for values, view in zip(maps.double().cpu(), batch, strict=True):
                shape = (view.case.image.shape[0], view.case.image.shape[1])
                back = grid.back(values, shape, view.case.spacing_mm, view.window)
                found.append(np.asarray(back[0].numpy()))
    return found


def network_image(view: View, grid: NetworkGrid, normalise: Normalise = normalised_ct) -> Tensor:
    """Return what the network sees of a view, ``(1, size, size)``."""
    patch = normalise(torch.from_numpy(view.case.image)[None])
    return grid.image(patch, view.case.spacing_mm, view.window)


def positive_score(positive: int = 1) -> Callable[[Any], Tensor]:
    """Return a target: the logit of the positive class, or the only one.

    Examples:
        >>> positive_score()(torch.tensor([[0.5, 2.0]])).item()
        2.0
    """

    def score(output: Any) -> Tensor:
        logits = getattr(output, "logits", output)
        return torch.as_tensor(logits[:, positive if logits.shape[1] > 1 else 0])

    return score


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the block, then each module back as it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
