"""An ordinary recorded forward, for methods that need derivatives or further passes, not rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.nn.attention import SDPBackend, sdpa_kernel

from ppi_med.saliency.base import Network, Recording, leaf_image, usable
from ppi_med.saliency.engine.isolation import isolated
from ppi_med.saliency.engine.norm_derivatives import norm_derivatives, scripted_norm_derivatives
from ppi_med.saliency.engine.roles import map_tensors
from ppi_med.saliency.target import Target, target_scores


class OrdinaryRecording(Recording):
    """A forward pass, together with what further passes need.

    Args:
        network: the network.
        image: see `Recording`; any floating point batch; it becomes a leaf.
        args: further arguments of the network.
        kwargs: further keyword arguments of the network.
    """

    def __init__(
        self, network: Network, image: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        leaf = leaf_image(image)
        self.network = network
        with torch.inference_mode(False):
            self.args, self.kwargs = map_tensors((args, kwargs), usable)
        super().__init__(leaf, self.pass_image(leaf))

    def pass_image(self, image: Tensor) -> Any:
        """Return the network's output for `image`, with a graph."""
        # Fused attention kernels have no second derivative, which a loss on a map needs.
        kernel = sdpa_kernel(SDPBackend.MATH)
        with torch.inference_mode(False), torch.enable_grad(), kernel, norm_derivatives():
            # A copy, because a network may change its input in place and a leaf may not be.
            return self.network(image.clone(), *self.args, **self.kwargs)

    def other_scores(self, image: Tensor, target: Target, *, graph: bool = True) -> Tensor:
        """Return the scores `(N,)` of another image, without a trace in the network.

        Args:
            image: image of the recorded image's shape.
            target: see `ppi_med.saliency.target.target_scores`.
            graph: record a graph for gradients.
        """
        with (
            isolated(self.network, image.device),
            torch.inference_mode(False),
            torch.set_grad_enabled(graph),
            sdpa_kernel(SDPBackend.MATH) if graph else nullcontext(),
            norm_derivatives(),
        ):
            output = self.network(image.clone(), *self.args, **self.kwargs)
            return scores_of(output, target, len(image))

    def scores(self, target: Target) -> Tensor:
        """Return the scores `(N,)` of the recorded image."""
        with torch.inference_mode(False), torch.enable_grad(), norm_derivatives():
            return scores_of(self.output, target, len(self.image))

    def gradients(
        self,
        scores: Tensor,
        inputs: Sequence[Tensor] | Sequence[GradientEdge],
        *,
        create_graph: bool = False,
        retain_graph: bool = False,
    ) -> tuple[Tensor | None, ...]:
        """Return the derivatives of the summed scores; None if there is no derivative."""
        if not scores.requires_grad:
            return (None,) * len(inputs)
        own = scripted_norm_derivatives(self.network)
        with torch.inference_mode(False), torch.enable_grad(), own:
            return torch.autograd.grad(
                scores.sum(),
                inputs,
                create_graph=create_graph,
                retain_graph=retain_graph or create_graph,
                allow_unused=True,
            )


def scores_of(output: Any, target: Target, images: int) -> Tensor:
    """Return the scores `(N,)` of `target`, one for each of the images.

    Raises:
        ValueError: if a callable target returns another number of scores.
    """
    scores = target_scores(output, usable(target) if isinstance(target, Tensor) else target)
    if len(scores) != images:
        raise ValueError(
            f"a target callable returned {len(scores)} scores for {images} images: "
            "return one score per image"
        )
    return scores


# From a gradient and its image to a map.
Reading = Callable[[Tensor, Tensor], Tensor]
Method = TypeVar("Method")


class MethodRecording(OrdinaryRecording, Generic[Method]):
    """An ordinary forward whose maps are made by a method."""

    def __init__(
        self,
        method: Method,
        network: Network,
        image: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(network, image, args, kwargs)
        self.method = method


class GradientRecording(MethodRecording[Reading]):
    """Maps are read off the gradient by the image: the method is `reading(gradient, image)`."""

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the map of `target`."""
        (found,) = self.gradients(
            self.scores(target), (self.image,), create_graph=create_graph, retain_graph=retain_graph
        )
        gradient = torch.zeros_like(self.image) if found is None else found
        with torch.inference_mode(False), torch.set_grad_enabled(create_graph):
            return self.method(gradient, self.image.detach())
