"""The fills that replace removed content, and the removal itself.

`remove(image, mask, fill)` is image * (1 - mask) + fill * mask; with a fill of zero it is the
paper's x* = x - T(s(x)) . x. A zero must then mean "nothing there": on images with another
normalisation choose another fill, or the hole itself becomes a signal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ppi_med.intervention.numeric import check_image, choose, image_dims
from ppi_med.intervention.smoothing import check_sigmas, gaussian_smooth


def remove(image: Tensor, mask: Tensor, fill: Tensor | float = 0.0) -> Tensor:
    """Replace the content under the mask: image * (1 - mask) + fill * mask.

    Args:
        image: `(N, C, *spatial)`.
        mask: in [0, 1], broadcastable to the image, for example `(N, 1, *spatial)`; cast to the
            image's dtype. Gradients pass through it.
        fill: broadcastable to the image, default 0: x - mask * x.

    Returns:
        The altered image, shape and dtype of `image`.

    Raises:
        TypeError: the image is not floating.
        ValueError: the mask doesn't broadcast to the image's shape.

    Examples:
        >>> import torch
        >>> remove(torch.tensor([[[4.0, 8.0]]]), torch.tensor([[[0.0, 0.5]]]), 2.0)
        tensor([[[4., 5.]]])
    """
    check_image(image, "image")
    fits = mask.dim() == image.dim() and all(
        m in (1, i) for m, i in zip(mask.shape, image.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, which doesn't broadcast to the image's "
            f"{tuple(image.shape)}: give (N or 1, 1 or C, *spatial)."
        )
    mask = mask.to(image.dtype)
    if isinstance(fill, Tensor):
        fill = fill.to(image.dtype)
    return image * (1 - mask) + fill * mask


class Fill(ABC):
    """The values that replace removed content, broadcastable to the image."""

    needs_partner: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, image: Tensor, partner: Tensor | None = None) -> Tensor:
        """Return the fill for images `(N, C, *spatial)`.

        Args:
            image: `(N, C, *spatial)`.
            partner: `(N,)` int64, the other sample of each; only `ExchangeFill` needs it.
        """


class ZeroFill(Fill):
    """Nothing: 0, the paper's.

    Examples:
        >>> import torch
        >>> ZeroFill()(torch.ones(2, 1, 3)).item()
        0.0
    """

    def __call__(self, image: Tensor, partner: Tensor | None = None) -> Tensor:
        """Return a zero."""
        return image.new_zeros(())


class ConstantFill(Fill):
    """One value, or one per channel.

    Args:
        value: a number, or a sequence with one number for each channel.

    Examples:
        >>> import torch
        >>> ConstantFill([0.1, 0.2])(torch.ones(1, 2, 3)).shape
        torch.Size([1, 2, 1])
    """

    def __init__(self, value: float | Sequence[float]) -> None:
        self.value = float(value) if isinstance(value, int | float) else [float(v) for v in value]

    def __call__(self, image: Tensor, partner: Tensor | None = None) -> Tensor:
        """Return the value(s).

        Raises:
            ValueError: the number of values is not that of the channels.
        """
        if isinstance(self.value, float):
            return image.new_full((), self.value)
        if len(self.value) != image.shape[1]:
            raise ValueError(
                f"the constant fill has {len(self.value)} values for {image.shape[1]} channels: "
                "give one number or one per channel."
            )
        return image.new_tensor(self.value).view(1, -1, *[1] * (image.dim() - 2))


class MeanFill(Fill):
    """The mean of each image, channel by channel.

    Examples:
        >>> import torch
        >>> MeanFill()(torch.tensor([[[1.0, 3.0]]])).item()
        2.0
    """

    def __call__(self, image: Tensor, partner: Tensor | None = None) -> Tensor:
        """Return the means, `(N, C, 1, ...)`."""
        return image.mean(image_dims(image)[1:], keepdim=True)


class BlurFill(Fill):
    """The image itself, smoothed: coarse content stays, detail goes.

    Args:
        sigma: standard deviation of the Gaussian in pixels, one number or one for each smoothed
            axis (default 8).
        dims: how many of the last axes are smoothed; default all spatial ones.

    Examples:
        >>> import torch
        >>> BlurFill(2.0)(torch.ones(1, 1, 5)).round(decimals=4)
        tensor([[[1., 1., 1., 1., 1.]]])
    """

    def __init__(self, sigma: float | Sequence[float] = 8.0, dims: int | None = None) -> None:
        check_sigmas([sigma] if isinstance(sigma, int | float) else sigma)
        self.sigma = sigma
        self.dims = dims

    def __call__(self, image: Tensor, partner: Tensor | None = None) -> Tensor:
        """Return the smoothed images."""
        return gaussian_smooth(image, self.sigma, self.dims).to(image.dtype)


class ExchangeFill(Fill):
    """Another sample's content at the same place: leaves no hole that could give the class away.

    Args:
        alone: for a sample that is its own partner (a batch of one): `shift` (default), the same
            image moved circularly by half its length along the last axis; `mean`, its mean. Its
            own content would remove nothing.

    Examples:
        >>> import torch
        >>> image = torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]])
        >>> ExchangeFill()(image, torch.tensor([1, 0]))[:, 0, 0]
        tensor([2., 1.])
    """

    needs_partner = True

    def __init__(self, alone: str = "shift") -> None:
        self.alone = choose("alone", alone, ("shift", "mean"))

    def __call__(self, image: Tensor, partner: Tensor | None = None) -> Tensor:
        """Return the partners' images.

        Raises:
            ValueError: no partner is given, or not one for each sample.
        """
        size = image.shape[0]
        if partner is None or partner.shape != (size,):
            got = None if partner is None else tuple(partner.shape)
            raise ValueError(
                f"exchange needs one partner for each of {size} samples, got {got}: draw them with "
                "draw_partners()."
            )
        if size == 1:
            return self._own(image)
        return image[partner]

    def _own(self, image: Tensor) -> Tensor:
        if self.alone == "mean":
            return MeanFill()(image).expand_as(image)
        return image.roll(image.shape[-1] // 2, -1)


FILLS: dict[str, type[Fill]] = {
    "zero": ZeroFill,
    "mean": MeanFill,
    "blur": BlurFill,
    "exchange": ExchangeFill,
}


def make_fill(fill: str | float | Fill) -> Fill:
    """Return a fill by name (`zero`, `mean`, `blur`, `exchange`), of a constant, or as given.

    Raises:
        ValueError: the name is unknown.

    >>> type(make_fill("mean")).__name__, type(make_fill(0.5)).__name__
    ('MeanFill', 'ConstantFill')
    """
    if isinstance(fill, Fill):
        return fill
    if isinstance(fill, int | float):
        return ConstantFill(fill)
    return FILLS[choose("fill", fill, tuple(FILLS))]()
