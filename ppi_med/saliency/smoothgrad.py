"""SmoothGrad (Smilkov et al., 2017) over any other method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, Recording, SaliencyMethod, usable
from ppi_med.saliency.gradient import Gradient
from ppi_med.saliency.isolation import isolated
from ppi_med.saliency.roles import map_tensors
from ppi_med.saliency.target import Target


class SmoothGrad(SaliencyMethod):
    """The mean of a method's maps over noisy copies of the image.

    s = 1/n sum_i s_method(x + e_i), e_i normal with standard deviation ``noise`` times the range
    of each image. The noise comes from a generator of its own and is the same for all images of a
    batch and for every map, so that a map depends on its image and the seed alone.

    Args:
        method: the method (default :class:`Gradient`).
        samples: noisy copies; each costs what the method costs (default 16).
        noise: standard deviation in units of max - min of each image (default 0.15).
        square: average the squares of the maps instead.
        seed: of the noise (default 0).

    Raises:
        ValueError: for fewer than one sample or negative noise.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> SmoothGrad(samples=2, seed=1)(network, torch.rand(3, 1, 2, 2), target=1).shape
        torch.Size([3, 1, 2, 2])
    """

    def __init__(
        self,
        method: SaliencyMethod | None = None,
        *,
        samples: int = 16,
        noise: float = 0.15,
        square: bool = False,
        seed: int = 0,
    ) -> None:
        if samples < 1 or noise < 0:
            raise ValueError(
                f"samples is {samples} and noise {noise}, expected at least one sample and noise "
                "of 0 or more"
            )
        self.method = Gradient() if method is None else method
        self.samples = samples
        self.noise = noise
        self.square = square
        self.seed = seed

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> NoisyRecording:
        """Run ``network(image, *args, **kwargs)`` once; noisy copies are passed for each map.

        Raises:
            ValueError: where ``image`` is not a floating point batch ``(N, C, *spatial)``.
        """
        clean = self.method.record(network, image, *args, **kwargs)
        return NoisyRecording(self, clean, network, args, kwargs)

    def noisy(self, image: Tensor) -> list[Tensor]:
        """Return the noisy copies of ``image``."""
        axes = tuple(range(1, image.ndim))
        width = self.noise * (image.amax(axes, keepdim=True) - image.amin(axes, keepdim=True))
        generator = torch.Generator(image.device).manual_seed(self.seed)
        return [
            image
            + width
            * torch.randn(
                (1, *image.shape[1:]),
                generator=generator,
                dtype=torch.promote_types(image.dtype, torch.float32),
                device=image.device,
            ).to(image.dtype)
            for _ in range(self.samples)
        ]


class NoisyRecording(Recording):
    """The forward of the clean image; maps take further passes, which leave no trace."""

    def __init__(
        self,
        method: SmoothGrad,
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
            total = torch.zeros_like(image)
            for copy in self.method.noisy(image):
                s = self._map(copy, target, create_graph)
                with torch.set_grad_enabled(create_graph):
                    total = total + (s.square() if self.method.square else s)
            with torch.set_grad_enabled(create_graph):
                return total / self.method.samples

    def _map(self, image: Tensor, target: Target, create_graph: bool) -> Tensor:
        with isolated(self.network, image.device):
            recording = self.method.method.record(self.network, image, *self.args, **self.kwargs)
            return recording.saliency(target, create_graph=create_graph, retain_graph=create_graph)
