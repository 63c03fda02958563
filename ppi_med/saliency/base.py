"""The call form of every saliency method, and the recorded forward that it works on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.engine.isolation import isolated
from ppi_med.saliency.engine.roles import map_tensors
from ppi_med.saliency.target import Target

Network = Callable[..., Any]


class Recording(ABC):
    """A forward pass that has been recorded, and from which maps can be read.

    A trainer computes its loss from `output` and reads the map from the same recording, so the
    clean image passes through the network once.

    Attributes:
        image: the leaf that the map explains, `(N, C, *spatial)`.
        output: the network's output.

    Examples:
        >>> from ppi_med.saliency import WBP
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> recording = WBP().record(network, torch.rand(3, 1, 2, 2))
        >>> s = recording.saliency(torch.tensor([0, 1, 1]), create_graph=True)
        >>> loss = recording.output.square().mean() + s.abs().mean()
        >>> loss.backward()
        >>> network[1].weight.grad.shape
        torch.Size([2, 4])
    """

    def __init__(self, image: Tensor, output: Any) -> None:
        self.image = image
        self.output = output

    @abstractmethod
    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the map of `target`, of the image's shape.

        Args:
            target: see `ppi_med.saliency.target.target_scores`.
            create_graph: record the map itself, so that a loss on it trains the network.
            retain_graph: keep the recording for a later `backward`.
        """


class SaliencyMethod(ABC):
    """A method that says which pixels a logit comes from.

    `method(network, image, target)` returns a map of the image's shape, batched, with one target
    per sample. It leaves no trace: parameters, `.grad`, buffers, modes, hooks and random state are
    unchanged, also after an exception.
    """

    @abstractmethod
    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> Recording:
        """Run `network(image, *args, **kwargs)` once and keep what a map needs.

        It is an ordinary forward of the network, with its effects on buffers and random state.
        """

    def __call__(
        self, network: Network, image: Tensor, target: Target, *, create_graph: bool = False
    ) -> Tensor:
        """Return the map of `target`.

        Args:
            network: a module, or any callable on `image`.
            image: `(N, C, *spatial)`, floating point.
            target: class index, LongTensor `(N,)`, or a callable on the output.
            create_graph: record the map itself, so that a loss on it trains the network.

        Returns:
            The map, of `image`'s shape and dtype.

        Raises:
            ValueError: if image or target do not fit.
            IndexError: if a class index is outside the output.

        Examples:
            >>> from ppi_med.saliency import WBP
            >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
            >>> image, target = torch.rand(2, 1, 2, 2), torch.tensor([2, 0])
            >>> WBP()(network, image, target).shape
            torch.Size([2, 1, 2, 2])
            >>> WBP()(network, image, lambda output: output[:, 1] - output[:, 0]).shape
            torch.Size([2, 1, 2, 2])
        """
        with isolated(network, image.device):
            recording = self.record(network, image)
            return recording.saliency(target, create_graph=create_graph, retain_graph=create_graph)


def leaf_image(image: Tensor) -> Tensor:
    """Return a detached plain tensor with a gradient, without subclasses such as MetaTensor.

    Raises:
        TypeError: if `image` is no tensor.
        ValueError: if `image` is not a floating point batch `(N, C, *spatial)`.
    """
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image is a {type(image).__name__}, expected a tensor (N, C, *spatial): give further "
            "inputs of the network as further arguments."
        )
    if not image.is_floating_point():
        raise ValueError(f"image has dtype {image.dtype}, expected floating point")
    if image.ndim < 3:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (N, C, *spatial)")
    plain = image.detach().as_subclass(torch.Tensor)
    with torch.inference_mode(False):
        return usable(plain).requires_grad_()


def usable(value: Tensor) -> Tensor:
    """Return `value`, or a copy if it was made in inference mode, since no graph may keep it.

    Call it outside of inference mode.
    """
    return value.clone() if value.is_inference() else value


WayBack = Callable[[Tensor], Tensor]
"""Maps a copy's map back to the pixels of the image."""


class MeanOverCopies(SaliencyMethod):
    """The mean of a method's maps over copies of the image, each mapped back to its pixels.

    Attributes:
        method: the method for each copy, at its usual cost.
    """

    method: SaliencyMethod

    @abstractmethod
    def copies(self, image: Tensor) -> Iterator[tuple[Tensor, WayBack]]:
        """Yield changed copies of `image` `(N, C, *spatial)`, each with its map's way back."""

    def of_copy(self, saliency: Tensor) -> Tensor:
        """Return the quantity to average: the map itself."""
        return saliency

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> CopiesRecording:
        """Run `network(image, *args, **kwargs)` once; the copies are passed for each map.

        Raises:
            ValueError: if `image` is not a floating point batch `(N, C, *spatial)`.
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
        """Return the mean map of `target`."""
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
