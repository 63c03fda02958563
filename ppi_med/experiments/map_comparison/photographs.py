"""Batches of photographs with labels and boxes, cut to a network's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppi_med.data.photos.photo import Box, Photo
from ppi_med.data.photos.pixels import read_pixels
from ppi_med.errors import UsageError
from ppi_med.evaluation.localisation import box_mask


@dataclass(frozen=True)
class Photographs:
    """Photographs of one size.

    Attributes:
        images: ``(N, 3, side, side)`` in 0..1.
        labels: class indices ``(N,)``.
        masks: ``(N, side, side)``, boolean: inside a box of the labelled thing.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor


def load_photographs(photos: Sequence[Photo], side: int = 224) -> Photographs:
    """Load photographs, cut to their centre of side x side; boxes are cut alike.

    Args:
        photos: of :func:`ppi_med.data.photos.layouts.read_photos`.
        side: in pixels; nothing is resampled.

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
            f"{photo.image} has {width} x {height} pixels, expected at least {side} a side."
        )
    if not photo.boxes:
        raise UsageError(f"{photo.image} has no box: energy in the box needs one an image.")
    top, left = (height - side) // 2, (width - side) // 2
    cut = torch.from_numpy(pixels[top : top + side, left : left + side].copy())
    boxes = torch.tensor([_whole_pixels(box, top, left) for box in photo.boxes])
    return cut.permute(2, 0, 1).float() / 255, box_mask(boxes, (side, side)).any(0)


def _whole_pixels(box: Box, top: int, left: int) -> list[int]:
    """Return the first row and column that a box touches, and the first behind it."""
    y0, x0, y1, x1 = box
    first = [math.floor(y0) - top, math.floor(x0) - left]
    return [*first, math.ceil(y1) - top, math.ceil(x1) - left]
