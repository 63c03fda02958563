"""Small numerical helpers shared by maps, masks and losses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


@contextlib.contextmanager
def no_autocast(like: Tensor) -> Iterator[None]:
    """Switch automatic mixed precision off for the device of `like`.

    Thresholds and Gaussian weights fail in half precision: an unnormalised map of size 1e-6 is
    partly zero in float16.
    """
    device_type = like.device.type
    if torch.amp.is_autocast_available(device_type):
        with torch.autocast(device_type, enabled=False):
            yield
    else:
        yield


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half precision and integer tensors as float32, float32 and float64 unchanged."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.to(torch.float32)


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor without a subclass (MONAI's MetaTensor follows indices in Python)."""
    return tensor.as_subclass(Tensor) if type(tensor) is not Tensor else tensor


def image_dims(tensor: Tensor) -> tuple[int, ...]:
    """Return every dimension but the batch: statistics over them are per image."""
    return tuple(range(1, tensor.dim()))


def safe_sqrt(value: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite.

    >>> x = torch.zeros(1, requires_grad=True)
    >>> torch.autograd.grad(safe_sqrt(x), x)[0].item()
    0.0
    """
    nothing = value <= 0  # false for NaN, so NaN stays NaN
    root = torch.where(nothing, torch.ones_like(value), value).sqrt()
    return torch.where(nothing, torch.zeros_like(value), root)


def std_per_image(tensor: Tensor) -> Tensor:
    """Population standard deviation over all but the batch, `(N, 1, ..., 1)`.

    A tensor that is constant up to rounding (std within 64 ulps of its peak) has exactly 0, with
    gradient 0: otherwise "mean + k std" of a constant image would be decided by rounding.
    """
    dims = image_dims(tensor)
    centred = tensor - tensor.mean(dims, keepdim=True)
    std = safe_sqrt(centred.square().mean(dims, keepdim=True))
    rounding = 64 * torch.finfo(std.dtype).eps * tensor.detach().abs().amax(dims, keepdim=True)
    return torch.where(std <= rounding, torch.zeros_like(std), std)


def check_image(tensor: Tensor, name: str) -> None:
    """Check that a tensor is floating and `(N, C, *spatial)` with at least one spatial axis.

    Raises:
        TypeError: the tensor is not floating.
        ValueError: it has fewer than three dimensions or is empty.
    """
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {tensor.dtype}, expected a floating one: convert it.")
    if tensor.dim() < 3:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, expected (N, C, *spatial) with at least one "
            "spatial axis: add the missing axes."
        )
    if tensor.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)} and so no element: skip empty batches."
        )


def check_map(tensor: Tensor, name: str = "saliency_map") -> None:
    """Check that a tensor is a map `(N, 1, *spatial)`.

    Raises:
        TypeError: the tensor is not floating.
        ValueError: its shape is another one.
    """
    check_image(tensor, name)
    if tensor.shape[1] != 1:
        raise ValueError(
            f"{name} has {tensor.shape[1]} channels, expected (N, 1, *spatial): reduce the "
            "channels first, for example with SaliencyToMap()."
        )


def check_saliency(saliency: Tensor, image: Tensor) -> None:
    """Check that a saliency has a value for each pixel of the images.

    Raises:
        ValueError: its shape is not `(N, C or 1, *spatial)` of the images.
    """
    fits = saliency.dim() == image.dim() and (
        saliency.shape[0] == image.shape[0]
        and saliency.shape[1] in (1, image.shape[1])
        and saliency.shape[2:] == image.shape[2:]
    )
    if not fits:
        raise ValueError(
            f"the saliency has shape {tuple(saliency.shape)} for images of "
            f"{tuple(image.shape)}: give one value for each pixel, (N, C or 1, *spatial)."
        )


def choose(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is among the allowed names.

    Raises:
        ValueError: it is not; the sentence lists the allowed names.
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}.")
    return value
