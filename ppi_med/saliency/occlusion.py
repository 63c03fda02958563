"""Occlusion (Zeiler and Fergus, 2014): how much the score falls where a window is covered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, SaliencyMethod
from ppi_med.saliency.engine.ordinary import MethodRecording
from ppi_med.saliency.target import Target


class Occlusion(SaliencyMethod):
    """The fall of the score when a window is covered, averaged over the windows that hold a pixel.

    s_j = mean over windows w containing j of y(x) - y(x with w filled). All channels are covered
    together and get the same map. Needs no gradient; each window costs one forward pass of the
    batch. With `create_graph` the map is a function of the network's parameters.

    Args:
        window: size in pixels, one number (default 8) or one for each spatial axis; clipped to the
            image.
        stride: step between windows, likewise (default half the window). The last window of an
            axis ends at the image's border.
        fill: what a window is filled with: a number (default 0), or one per channel.

    Raises:
        ValueError: if a size or a step is below 1.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
        >>> image = torch.ones(3, 1, 2, 2)
        >>> s = Occlusion(window=1)(network, image, target=1)
        >>> torch.allclose(s[0].flatten(), network[1].weight[1], atol=1e-6)
        True
    """

    def __init__(
        self,
        window: int | Sequence[int] = 8,
        stride: int | Sequence[int] | None = None,
        fill: float | Sequence[float] = 0.0,
    ) -> None:
        self.window = window
        self.stride = stride
        self.fill = fill
        for name, value in (("window", window), ("stride", stride)):
            sizes = () if value is None else (value,) if isinstance(value, int) else value
            if any(size < 1 for size in sizes):
                raise ValueError(f"{name} is {value}, expected at least 1")

    def windows(self, size: Sequence[int]) -> list[tuple[slice, ...]]:
        """Return the windows of an image of this size in space."""
        window = _each("window", self.window, size)
        window = [min(w, n) for w, n in zip(window, size, strict=True)]
        if self.stride is None:
            stride = [max(1, w // 2) for w in window]
        else:
            stride = _each("stride", self.stride, size)
        axes = []
        for w, step, n in zip(window, stride, size, strict=True):
            starts = list(range(0, n - w + 1, step))
            if starts[-1] != n - w:
                starts.append(n - w)
            axes.append([slice(start, start + w) for start in starts])
        return list(product(*axes))

    def record(
        self, network: Network, image: Tensor, *args: Any, **kwargs: Any
    ) -> OcclusionRecording:
        """Run `network(image, *args, **kwargs)` once; windows are covered for each map.

        Raises:
            ValueError: if `image` is not a floating point batch `(N, C, *spatial)`.
        """
        return OcclusionRecording(self, network, image, args, kwargs)


class OcclusionRecording(MethodRecording[Occlusion]):
    """The forward of the image; maps take further passes, which leave no trace."""

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the map of `target`."""
        image, spatial = self.image.detach(), self.image.shape[2:]
        scores = self.scores(target)
        with torch.inference_mode(False), torch.set_grad_enabled(create_graph):
            scores = scores if create_graph else scores.detach()
            fill = torch.as_tensor(self.method.fill, dtype=image.dtype, device=image.device)
            fill = fill.view(-1, *([1] * len(spatial)))
            fall = torch.zeros(len(image), 1, *spatial, dtype=scores.dtype, device=image.device)
            times = torch.zeros(spatial, dtype=scores.dtype, device=image.device)
            for window in self.method.windows(spatial):
                covered = image.clone()
                covered[(slice(None), slice(None), *window)] = fill
                lost = scores - self.other_scores(covered, target, graph=create_graph)
                inside = torch.zeros_like(times)
                inside[window] = 1
                fall = fall + lost.view(-1, 1, *([1] * len(spatial))) * inside
                times += inside
            # Steps longer than the window leave gaps that no window covers.
            found = fall / times.clamp(min=1)
            return found.expand(image.shape).to(image.dtype).contiguous()


def _each(name: str, value: int | Sequence[int], size: Sequence[int]) -> list[int]:
    values = [value] * len(size) if isinstance(value, int) else list(value)
    if len(values) != len(size):
        raise ValueError(f"{name} is {value}, expected one number or {len(size)}: one per axis")
    return values
