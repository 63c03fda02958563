"""The mean of a method's maps over changed copies of the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, Recording, SaliencyMethod, usable
from ppi_med.saliency.isolation import isolated
from ppi_med.saliency.roles import map_tensors
from ppi_med.saliency.target import Target

WayBack = Callable[[Tensor], Tensor]
"""Brings the map of a copy to the pixels of the image."""


class MeanOverCopies(SaliencyMethod):
    """The mean of a method's maps over copies of the image, each brought back to its pixels.

    Attributes:
        method: gives the map of a copy, at its usual cost.
    """

    method: SaliencyMethod

    @abstractmethod
    def copies(self, image: Tensor) -> Iterator[tuple[Tensor, WayBack]]:
        """Yield changed copies of ``image`` ``(N, C, *spatial)``, each with its map's way back."""

    def of_copy(self, saliency: Tensor) -> Tensor:
        """Return what is averaged of a copy's map: the map."""
        return saliency

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> CopiesRecording:
        """Run ``network(image, *args, **kwargs)`` once; the copies are passed for each map.

        Raises:
            ValueError: where ``image`` is not a floating point batch ``(N, C, *spatial)``.
        """
        clean = self.method.record(network, image, *args, **kwargs)
        return CopiesRecording(self, clean, network, args, kwargs)


class CopiesRecording(Recording):
    """The forward of the clean image; maps take further passes, which leave no trace."""

    def __init__(
        self,
        method: MeanOverCopies,
        clean: Recording,
        network: Network,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(clean.image, clean.output)
        self.method, self.network = method, network
        with torch.inference_mode(False):
            self.args, self.kwargs = map_tensors((args, kwargs), usable)

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the mean map of ``target``."""
        image = self.image.detach()
        with torch.inference_mode(False):
            total, count = torch.zeros_like(image), 0
            for copy, way_back in self.method.copies(image):
                s = self._map(copy, target, create_graph)
                with torch.set_grad_enabled(create_graph):
                    total = total + way_back(self.method.of_copy(s))
                count += 1
            with torch.set_grad_enabled(create_graph):
                return total / count

    def _map(self, image: Tensor, target: Target, create_graph: bool) -> Tensor:
        with isolated(self.network, image.device):
            recording = self.method.method.record(self.network, image, *self.args, **self.kwargs)
            return recording.saliency(target, create_graph=create_graph, retain_graph=create_graph)
