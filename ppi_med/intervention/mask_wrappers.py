"""Masks made from another mask: the same shape at a random place, and its complement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ppi_med.intervention.masks import Mask
from ppi_med.intervention.randomness import RandomState, move_at_random


class ComplementMask(Mask):
    """1 - T(s): what the map does not show. An empty map gives an empty mask.

    With `pairing="own"` x' keeps what its own map shows, and the rest is removed or exchanged.

    Args:
        mask: T, the mask of what stays.

    Examples:
        >>> import torch
        >>> from ppi_med.intervention import TopKMask
        >>> ComplementMask(TopKMask(k=2))(torch.tensor([[[0.1, 0.5, 0.0, 0.9]]]))
        tensor([[[1., 0., 1., 0.]]])
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask

    @property
    def differentiable(self) -> bool:
        """The same as for the mask of what stays."""
        return self.mask.differentiable

    def cut(self, saliency_map: Tensor) -> Tensor:
        """Cut the mask of what stays and return the rest."""
        return 1 - self.mask(saliency_map)

    def state_dict(self) -> dict[str, Any]:
        """Return the inner mask's state."""
        return self.mask.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.mask.load_state_dict(state)

    def separate(self, rank: int) -> None:
        """Separate the inner mask's draws."""
        self.mask.separate(rank)


class RandomPlace(Mask):
    """Another mask moved to a random place by a circular shift: the control of equal area.

    Area and shape are exactly those of the mask (a shape that crosses an edge comes back at the
    opposite one). Each image of the batch is moved by its own shift.

    Args:
        mask: the mask to move.
        seed: seed of the generator of the shifts, which `state_dict` keeps.
        axes: the axes of `(N, 1, *spatial)` along which it moves, from 2 on; default all spatial.

    Examples:
        >>> import torch
        >>> from ppi_med.intervention import BoxMask
        >>> m = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> bool((RandomPlace(BoxMask())(m).sum((1, 2, 3)) == BoxMask()(m).sum((1, 2, 3))).all())
        True
    """

    def __init__(self, mask: Mask, seed: int = 0, axes: Sequence[int] | None = None) -> None:
        self.mask = mask
        self.axes = None if axes is None else tuple(axes)
        self.random = RandomState(seed)

    @property
    def differentiable(self) -> bool:
        """The same as for the moved mask."""
        return self.mask.differentiable

    def cut(self, saliency_map: Tensor) -> Tensor:
        """Cut the mask and move it."""
        return move_at_random(self.mask(saliency_map), self.random.generator, self.axes)

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state and the inner mask's."""
        return {"random": self.random.state_dict(), "mask": self.mask.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.random.load_state_dict(state["random"])
        self.mask.load_state_dict(state["mask"])

    def separate(self, rank: int) -> None:
        """Separate the places, and the inner mask's draws."""
        self.random.separate(rank)
        self.mask.separate(rank)
