"""From a saliency tensor to the map for the masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ppi_med.intervention.numeric import (
    at_least_float32,
    check_image,
    choose,
    image_dims,
    no_autocast,
    plain,
    safe_sqrt,
    std_per_image,
)
from ppi_med.intervention.smoothing import check_sigmas, gaussian_smooth

_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "abs_sum": lambda s: s.abs().sum(1, keepdim=True),
    "positive_sum": lambda s: s.relu().sum(1, keepdim=True),
    "sum": lambda s: s.sum(1, keepdim=True).relu(),
    "abs_of_sum": lambda s: s.sum(1, keepdim=True).abs(),
    "max_abs": lambda s: s.abs().amax(1, keepdim=True),
}
_SCALE: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda m: m.amax(image_dims(m), keepdim=True),
    "std": std_per_image,
    "l2": lambda m: safe_sqrt(m.square().sum(image_dims(m), keepdim=True)),
    "mean": lambda m: m.mean(image_dims(m), keepdim=True),
}
REDUCTIONS = tuple(_REDUCE)
NORMALISATIONS = (*_SCALE, "none")


def _divide(saliency_map: Tensor, scale: Tensor) -> Tensor:
    """Divide by a scale per image; a map with scale 0 is unchanged."""
    vanishes = scale <= torch.finfo(scale.dtype).tiny
    return saliency_map / torch.where(vanishes, torch.ones_like(scale), scale)


class SaliencyToMap:
    """Turn saliency `(N, C, *spatial)` into a map `(N, 1, *spatial)` >= 0, normalised per image.

    Order: channels are reduced, the result is smoothed, then divided by its norm. The paper's
    thresholds (sigma = 0.25, Appendix B) are in units of the normalised map, so the norm is part
    of the mask: with `max` they are fractions of the image's highest value.

    Args:
        reduce: `abs_sum` sum of |s| (default); `positive_sum` sum of max(s, 0); `sum` max(sum, 0):
            channels may cancel; `abs_of_sum` |sum|; `max_abs` highest |s|.
        normalise: `max` (default), `std` (population), `l2`, `mean`, each over one whole image, or
            `none`. A map whose norm is 0 is not divided.
        smooth_sigma: Gaussian smoothing in pixels, one number or one for each smoothed axis;
            0 = off (default). See `gaussian_smooth` for the edges.
        smooth_dims: how many of the last axes are smoothed; default all. 2 for volumes of
            separate slices.

    Raises:
        ValueError: an unknown name, or a sigma that is negative or not finite.

    Examples:
        >>> s = torch.tensor([[[[1.0, -4.0], [0.0, 2.0]]]])
        >>> SaliencyToMap()(s)
        tensor([[[[0.2500, 1.0000],
                  [0.0000, 0.5000]]]])
    """

    def __init__(
        self,
        reduce: str = "abs_sum",
        normalise: str = "max",
        smooth_sigma: float | Sequence[float] = 0.0,
        smooth_dims: int | None = None,
    ) -> None:
        self.reduce = choose("reduce", reduce, REDUCTIONS)
        self.normalise = choose("normalise", normalise, NORMALISATIONS)
        check_sigmas([smooth_sigma] if isinstance(smooth_sigma, int | float) else smooth_sigma)
        self.smooth_sigma = smooth_sigma
        self.smooth_dims = smooth_dims

    def __call__(self, saliency: Tensor) -> Tensor:
        """Return the map, `(N, 1, *spatial)`, in float32 or float64.

        Args:
            saliency: `(N, C, *spatial)`, signed or not; gradients pass through.

        Raises:
            TypeError: the saliency is not floating.
            ValueError: it has no spatial axis or no element.
        """
        check_image(saliency, "saliency")
        saliency = at_least_float32(plain(saliency))
        with no_autocast(saliency):
            reduced = _REDUCE[self.reduce](saliency)
            if self.smooth_sigma:
                reduced = gaussian_smooth(reduced, self.smooth_sigma, self.smooth_dims)
            if self.normalise == "none":
                return reduced
            return _divide(reduced, _SCALE[self.normalise](reduced))
