"""SmoothGrad (Smilkov et al., 2017) over any other method."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ppi_med.saliency.base import MeanOverCopies, SaliencyMethod, WayBack
from ppi_med.saliency.gradient import Gradient


class SmoothGrad(MeanOverCopies):
    """The mean of a method's maps over noisy copies of the image.

    s = 1/n sum_i s_method(x + e_i), e_i normal with standard deviation `noise` times the range
    of each image. The noise has its own generator and is the same for all images of a batch and for
    every map, so a map depends on its image and the seed only.

    Args:
        method: the method (default `Gradient`).
        samples: noisy copies; each costs one map of the method (default 16).
        noise: standard deviation in units of max - min of each image (default 0.15).
        square: average the squares of the maps instead.
        seed: seed of the noise (default 0).

    Raises:
        ValueError: for fewer than one sample or negative noise.

    Examples:
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

    def copies(self, image: Tensor) -> Iterator[tuple[Tensor, WayBack]]:
        """Yield the noisy copies of `image`, whose maps are on its own pixels."""
        axes = tuple(range(1, image.ndim))
        width = self.noise * (image.amax(axes, keepdim=True) - image.amin(axes, keepdim=True))
        generator = torch.Generator(image.device).manual_seed(self.seed)
        for _ in range(self.samples):
            noise = torch.randn(
                (1, *image.shape[1:]),
                generator=generator,
                dtype=torch.promote_types(image.dtype, torch.float32),
                device=image.device,
            )
            yield image + width * noise.to(image.dtype), _as_it_is

    def of_copy(self, saliency: Tensor) -> Tensor:
        """Return the map, or its square."""
        return saliency.square() if self.square else saliency


def _as_it_is(saliency: Tensor) -> Tensor:
    return saliency
