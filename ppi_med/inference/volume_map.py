"""The map of whole volumes as a saliency method, for pictures of an evaluation."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from ppi_med.inference.explain import explain_volume
from ppi_med.saliency import WBP
from ppi_med.saliency.base import SaliencyMethod

_PRESENT = 1


class VolumeMap:
    """Maps a volume slice by slice, in the memory of a few slices; see `explain_volume`.

    Args:
        method: the saliency method of the single slices; default WBP.
        chunk_size: slices at a time.

    Examples:
        >>> import torch
        >>> from ppi_med.networks import MultiViewClassifier
        >>> VolumeMap()(MultiViewClassifier(), torch.zeros(1, 1, 3, 32, 32), 1).shape
        torch.Size([1, 1, 3, 32, 32])
    """

    def __init__(self, method: SaliencyMethod | None = None, chunk_size: int = 16) -> None:
        self.method = WBP() if method is None else method
        self.chunk_size = chunk_size

    def __call__(self, network: nn.Module, image: Tensor, target: Any = _PRESENT) -> Tensor:
        """Return the map of the presence of GA, of the image's shape ``(N, 1, S, H, W)``.

        Raises:
            ValueError: for another target than 1.
        """
        if target != _PRESENT:
            raise ValueError(f"target is {target!r}, expected {_PRESENT}: the map is of GA.")
        found = explain_volume(network, image, self.method, chunk_size=self.chunk_size)
        # With a method there is a map.
        return cast(Tensor, found.saliency)
