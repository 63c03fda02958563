"""The mean of a map over flips and quarter turns of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, combinations

import torch
from torch import Tensor

from ppi_med.saliency.base import MeanOverCopies, SaliencyMethod, WayBack
from ppi_med.saliency.wbp import WBP

_PLANE = (-2, -1)


class SymmetryMean(MeanOverCopies):
    """The mean of a method's maps over flipped and turned copies of the image, each turned back.

    s = 1/|G| sum_g g^-1 s_method(g x), over all g that the flips and turns generate: eight for
    both flips and quarter turns of a plane. The raster of strides and pooling differs from copy to
    copy and averages out; the content stays. With WBP it is the map of the mean score over the
    copies, such as that of `test_views` in `lidc_ppi`. It is meant for networks that were trained
    with these flips and turns. The map of a flipped image is the flipped map.

    Args:
        method: method for each copy (default `WBP`).
        flips: spatial axes to flip, counted from the end (default both of the plane).
        turns: quarter turns in the plane of the last two axes (default True).

    Raises:
        ValueError: if an axis is not negative, or there is nothing to flip or turn.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
        >>> method = SymmetryMean(flips=[-1], turns=False)
        >>> s = method(network, torch.rand(3, 1, 4, 4), target=1)
        >>> s.shape, method.size
        (torch.Size([3, 1, 4, 4]), 2)
    """

    def __init__(
        self,
        method: SaliencyMethod | None = None,
        *,
        flips: Sequence[int] = _PLANE,
        turns: bool = True,
    ) -> None:
        if any(axis >= 0 for axis in flips):
            raise ValueError(f"flips is {list(flips)}, expected axes from the end, such as -1")
        if not flips and not turns:
            raise ValueError("flips is empty and turns is False: there is no copy to average over")
        self.method = WBP() if method is None else method
        axes = sorted(set(flips))
        if turns and set(_PLANE) <= set(axes):
            # Half a turn is both flips: without this each copy would be counted twice.
            axes.remove(-2)
        self.flips = [
            list(some)
            for some in chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
        ]
        self.turns = range(4) if turns else range(1)

    @property
    def size(self) -> int:
        """Number of copies per map; each costs one map of the method."""
        return len(self.flips) * len(self.turns)

    def copies(self, image: Tensor) -> Iterator[tuple[Tensor, WayBack]]:
        """Yield the flipped and turned copies of `image` `(N, C, *spatial)`.

        Raises:
            ValueError: if an axis to flip is not spatial, or the plane to turn is not square.
        """
        lowest = min((axis for flips in self.flips for axis in flips), default=-1)
        if lowest < 2 - image.ndim:
            raise ValueError(
                f"flips has the axis {lowest}, expected spatial axes of an image "
                f"{tuple(image.shape)}"
            )
        if len(self.turns) > 1 and (image.ndim < 4 or image.shape[-2] != image.shape[-1]):
            raise ValueError(
                f"an image {tuple(image.shape)} can't be turned by a quarter, expected a square "
                "plane of the last two axes; give turns=False"
            )
        for flips in self.flips:
            for turn in self.turns:
                copy = torch.rot90(image.flip(flips), turn, _PLANE) if turn else image.flip(flips)
                yield copy, partial(_turned_back, turn=turn, flips=flips)


def _turned_back(saliency: Tensor, turn: int, flips: list[int]) -> Tensor:
    turned = torch.rot90(saliency, -turn, _PLANE) if turn else saliency
    return turned.flip(flips)
