"""Grad-CAM (Selvaraju et al., 2017) and Grad-CAM++ (Chattopadhyay et al., 2018)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.saliency.base import Network, SaliencyMethod
from ppi_med.saliency.engine.layer_output import LayerOutput, watching
from ppi_med.saliency.engine.ordinary import OrdinaryRecording
from ppi_med.saliency.target import Target

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class ClassActivationMap(SaliencyMethod):
    """The channels of a layer, weighted and summed; upsampled to the image.

    s = ReLU(sum_k w_k A_k), with A_k the channels of the layer's output and weights that a
    subclass takes from the score's gradient by A. Every channel of the image gets the same map.
    It is not scaled to an image's own range: thresholds stay comparable.

    Args:
        layer: name of a module of the network, such as `"features.3"`; None (default): the last
            convolution whose output has spatial dimensions. If a module runs more than once, its
            last run counts.
        relu: drop what speaks against the target (default True).
        slice_axis: for a network that processes the slices of a volume one by one: the slices' axis
            of `(N, C, *spatial)` (default None). Each slice has its own map.
    """

    def __init__(
        self, layer: str | None = None, *, relu: bool = True, slice_axis: int | None = None
    ) -> None:
        if slice_axis is not None and slice_axis < 2:
            raise ValueError(
                f"slice_axis is {slice_axis}, expected an axis in space of (N, C, *spatial): 2 "
                "or more"
            )
        self.layer = layer
        self.relu = relu
        self.slice_axis = slice_axis

    @abstractmethod
    def weights(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the weight of each channel, `(N, C, 1, ...)`, from A and dy/dA."""

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> CAMRecording:
        """Run `network(image, *args, **kwargs)` once and keep the layer's output.

        Raises:
            ValueError: if `image` is not a floating point batch `(N, C, *spatial)`, the
                network has no such layer, or the layer gives no channels in space.
        """
        return CAMRecording(self, network, image, args, kwargs)

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the map at the layer's resolution, `(N, 1, *spatial)`."""
        summed = (self.weights(activation, gradient) * activation).sum(1, keepdim=True)
        return summed.relu() if self.relu else summed


class CAMRecording(OrdinaryRecording):
    """An ordinary forward in which the output of a layer was kept."""

    def __init__(
        self,
        method: ClassActivationMap,
        network: Network,
        image: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.method = method
        every_run = method.slice_axis is not None
        with watching(network, method.layer, every_run=every_run) as watch:
            super().__init__(network, image, args, kwargs)
        self.kept: list[LayerOutput] = watch.outputs()

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return the map of `target`, of the image's shape."""
        scores = self.scores(target)
        gradients = self.gradients(
            scores,
            [output.edge for output in self.kept],
            create_graph=create_graph,
            retain_graph=retain_graph,
        )
        with torch.inference_mode(False), torch.set_grad_enabled(create_graph):
            activation = torch.cat([output.value() for output in self.kept])
            gradient = torch.cat(
                [
                    torch.zeros_like(output.value()) if found is None else found
                    for output, found in zip(self.kept, gradients, strict=True)
                ]
            )
            return self._upsampled(self.method.combine(activation, gradient))

    def _upsampled(self, coarse: Tensor) -> Tensor:
        image, axis = self.image, self.method.slice_axis
        size = list(image.shape[2:])
        slices = 1 if axis is None else size.pop(axis - 2)
        if len(coarse) != len(image) * slices or coarse.ndim - 2 != len(size):
            of = "" if axis is None else f" and {slices} slices along axis {axis}"
            raise ValueError(
                f"the layer's output leads to a map {tuple(coarse.shape)} for images "
                f"{tuple(image.shape)}{of}: name a layer that keeps their space, or give the "
                "slice_axis of a network that passes slices one by one"
            )
        fine = F.interpolate(coarse, size=size, mode=_MODES[len(size)], align_corners=False)
        if axis is not None:
            fine = fine.unflatten(0, (len(image), slices)).movedim(1, axis)
        return fine.expand(image.shape).to(image.dtype).contiguous()


class GradCAM(ClassActivationMap):
    """Grad-CAM: the weight of a channel is the mean of the gradient over its positions.

    s = ReLU(sum_k w_k A_k), w_k = mean_ij dy/dA_k,ij; upsampled linearly to the image.

    Examples:
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(),
        ...     torch.nn.LazyLinear(2),
        ... )
        >>> GradCAM()(network, torch.rand(3, 1, 9, 9), target=1).shape
        torch.Size([3, 1, 9, 9])
    """

    def weights(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the mean gradient of each channel."""
        return gradient.mean(tuple(range(2, gradient.ndim)), keepdim=True)


class GradCAMPlusPlus(ClassActivationMap):
    """Grad-CAM++: positions with a positive gradient count, each with its own weight.

    w_k = sum_ij a_k,ij ReLU(g_k,ij), a = g^2 / (2 g^2 + g^3 sum_ab A_k,ab), 0 where g = 0
    (equation 19 of Chattopadhyay et al.).

    Args:
        layer: see `ClassActivationMap`.
        relu: drop what speaks against the target (default True).
        slice_axis: see `ClassActivationMap`.
        eps: added to the denominator of a (default 0; pytorch-grad-cam adds 1e-6, which matters
            where gradients are small).

    Examples:
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(2)
        ... )
        >>> bool((GradCAMPlusPlus()(network, torch.rand(3, 1, 5, 5), target=1) >= 0).all())
        True
    """

    def __init__(
        self,
        layer: str | None = None,
        *,
        relu: bool = True,
        slice_axis: int | None = None,
        eps: float = 0.0,
    ) -> None:
        super().__init__(layer, relu=relu, slice_axis=slice_axis)
        self.eps = eps

    def weights(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the weighted sum of the positive gradient of each channel."""
        axes = tuple(range(2, gradient.ndim))
        # g^2 is cancelled: it would underflow in single precision.
        if self.eps == 0:
            below = 2 + gradient * activation.sum(axes, keepdim=True)
            share = torch.where(below == 0, 0.0, 1 / torch.where(below == 0, 1.0, below))
        else:
            square = gradient.square()
            below = 2 * square + activation.sum(axes, keepdim=True) * square * gradient + self.eps
            share = square / below
        share = torch.where(gradient == 0, torch.zeros_like(share), share)
        return (share * gradient.relu()).sum(axes, keepdim=True)
