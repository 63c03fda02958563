"""The inputs of map comparisons: photographs with boxes, a pretrained network, named methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.data.photos.photo import Box, Photo
from ppi_med.data.photos.pixels import read_pixels
from ppi_med.errors import UsageError, require_known
from ppi_med.evaluation.faithfulness import random_values
from ppi_med.evaluation.localisation import box_mask
from ppi_med.evaluation.measures import MapMethod
from ppi_med.saliency import by_name

REFERENCE = "wbp"
# Least and largest value that a channel of a prepared image can have.
Range = tuple[list[float], list[float]]

CONTROLS = ("random", "centre", "edges")
METHODS = (
    *(REFERENCE, "gradient", "gradient_absolute", "gradient_x_input", "integrated_gradients"),
    *("smoothgrad", "gradcam", "gradcam_plus_plus", "lrp_epsilon", "lrp_gamma"),
    *("lrp_alpha2_beta1", "lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "occlusion"),
    *CONTROLS,
)


def map_method(name: str, bounds: Range) -> MapMethod:
    """Return a method or a control by name.

    Args:
        name: one of `METHODS`.
        bounds: bounds of a prepared image's channels, for the LRP rule that needs them.

    Raises:
        UsageError: if there is no such method.

    Examples:
        >>> type(map_method("wbp", ([0.0], [1.0]))).__name__
        'WBP'
    """
    require_known("method", name, METHODS)
    controls = dict(zip(CONTROLS, (random_map, centre_map, edge_map), strict=True))
    if name in controls:
        return controls[name]
    low, high = bounds
    options: dict[str, dict[str, Any]] = {
        "lrp_epsilon_gamma_box": {"low": low, "high": high},
        "occlusion": {"window": 56, "stride": 28},
    }
    return by_name(name, **options.get(name, {}))


def random_map(network: Any, image: Tensor, target: Tensor) -> Tensor:
    """Return random values: pixels in random order."""
    return random_values(image, seed=0).unsqueeze(1).expand_as(image) / image.shape[1]


def centre_map(network: Any, image: Tensor, target: Tensor) -> Tensor:
    """Return values that fall with the distance from the image's centre."""
    axes = [torch.linspace(-1, 1, size, device=image.device) for size in image.shape[2:]]
    distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    return torch.exp(-2 * distance).to(image.dtype).expand_as(image)


def edge_map(network: Any, image: Tensor, target: Tensor) -> Tensor:
    """Return the absolute response of an edge filter: it shows the image, not the network."""
    kernel = torch.full((1, 1, 3, 3), -1.0, dtype=image.dtype, device=image.device)
    kernel[0, 0, 1, 1] = 8.0
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    channels = image.shape[1]
    return F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels).abs()


@dataclass(frozen=True)
class Photographs:
    """Photographs of one size.

    Attributes:
        images: `(N, 3, side, side)` in 0..1.
        labels: class indices `(N,)`.
        masks: `(N, side, side)`, boolean: inside a box of the labelled object.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor


def load_photographs(photos: Sequence[Photo], side: int = 224) -> Photographs:
    """Load photographs, cut to their centre of side x side; boxes are cut too.

    Args:
        photos: result of `ppi_med.data.photos.layouts.read_photos`.
        side: side in pixels; nothing is resampled.

    Raises:
        MissingFileError: an image is missing.
        UsageError: an image is smaller than the side, or has no box.
    """
    loaded = [_photograph(photo, side) for photo in photos]
    return Photographs(
        images=torch.stack([image for image, _ in loaded]),
        labels=torch.tensor([photo.label for photo in photos]),
        masks=torch.stack([mask for _, mask in loaded]),
    )


def _photograph(photo: Photo, side: int) -> tuple[Tensor, Tensor]:
    pixels = read_pixels(photo.image)
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        raise UsageError(
            f"{photo.image} has {width} x {height} pixels, expected at least {side} per side."
        )
    if not photo.boxes:
        raise UsageError(f"{photo.image} has no box: energy in the box needs one per image.")
    top, left = (height - side) // 2, (width - side) // 2
    cut = torch.from_numpy(pixels[top : top + side, left : left + side].copy())
    boxes = torch.tensor([_whole_pixels(box, top, left) for box in photo.boxes])
    return cut.permute(2, 0, 1).float() / 255, box_mask(boxes, (side, side)).any(0)


def _whole_pixels(box: Box, top: int, left: int) -> list[int]:
    """Return the first row and column that a box touches, and the first ones after it."""
    y0, x0, y1, x1 = box
    first = [math.floor(y0) - top, math.floor(x0) - left]
    return [*first, math.ceil(y1) - top, math.ceil(x1) - left]


# RGB in 0..1: mean and standard deviation of networks that do not use ImageNet's.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OTHERS = {"efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3)}


@dataclass(frozen=True)
class Preparation:
    """(image - mean) / std, channel by channel; 0 is then the mean grey.

    Examples:
        >>> preparation_of("efficientnet_lite0")(torch.full((1, 3, 1, 1), 127 / 255)).abs().max()
        tensor(0.)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Tensor) -> Tensor:
        """Prepare images `(N, C, H, W)` in 0..1."""
        mean, std = (torch.tensor(v).view(1, -1, 1, 1).to(image) for v in (self.mean, self.std))
        return (image - mean) / std

    def bounds(self) -> tuple[list[float], list[float]]:
        """Return the least and the largest value of each channel of a prepared image."""
        pairs = list(zip(self.mean, self.std, strict=True))
        return [-mean / std for mean, std in pairs], [(1 - mean) / std for mean, std in pairs]


def preparation_of(name: str) -> Preparation:
    """Return the preparation that a pretrained network of this name expects."""
    return Preparation(*_OTHERS.get(name, _IMAGENET))


def pretrained(name: str, weights: Path, classes: int = 1000) -> nn.Module:
    """Return a classifier in evaluation mode with all its weights from a file.

    Channels are last in memory: half the time on a CPU, the same results.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name is unknown or the weights do not fit.
    """
    from ppi_med.networks.backbones import create_classifier

    network = create_classifier(name, classes, in_channels=3, weights=weights, head="load")
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
