"""A bird on its habitat as pixels, with the bird's box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ppi_med.phantoms.birds.habitats import paint_habitat
from ppi_med.phantoms.birds.shapes import Part, bird_parts, placed
from ppi_med.phantoms.birds.species import SPECIES
from ppi_med.phantoms.streams import stream

# Drawn this many times larger, then averaged: smooth edges.
_FINER = 4
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def render_bird(name: str, species: int, habitat: str, size: int, seed: int) -> tuple[Pixels, Box]:
    """Return the picture and the box of the bird.

    The bird depends on the seed and the name alone: the same bird can be put on another habitat.

    Args:
        name: of the image.
        species: index into :data:`SPECIES`.
        habitat: one of :data:`~ppi_med.phantoms.birds.habitats.HABITATS`.
        size: side in pixels.
        seed: of the phantom.

    Returns:
        ``(size, size, 3)`` and the box x, y, width, height in whole pixels.

    Example:
        >>> picture, (x, y, width, height) = render_bird("0001", 0, "sea", 48, seed=1)
        >>> picture.shape, x + width <= 48
        ((48, 48, 3), True)
    """
    bird = stream(seed, name, "bird")
    parts = placed(bird_parts(SPECIES[species], bird), bird, size)
    colours, cover = _drawn(parts, size)
    background = paint_habitat(habitat, size, stream(seed, name, "habitat", habitat))
    grain = stream(seed, name, "grain").normal(0, 5, (size, size, 3))
    picture = background * (1 - cover[..., None]) + colours * cover[..., None] + grain
    return np.clip(np.round(picture), 0, 255).astype(np.uint8), _box(cover)


def _drawn(parts: list[Part], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return colours ``(size, size, 3)`` and how much of each pixel is the bird's."""
    fine = size * _FINER
    colours, cover = Image.new("RGB", (fine, fine)), Image.new("L", (fine, fine))
    for part in parts:
        points = [(float(x), float(y)) for x, y in part.points * _FINER]
        ImageDraw.Draw(colours).polygon(points, fill=part.colour)
        ImageDraw.Draw(cover).polygon(points, fill=255)
    share = _averaged(np.asarray(cover, dtype=np.float64)[..., None] / 255, size)
    # Colours are averaged over the bird's own part of a pixel.
    own = np.asarray(colours, dtype=np.float64) * (np.asarray(cover)[..., None] > 0)
    return _averaged(own, size) / np.maximum(share, 1e-9), share[..., 0]


def _averaged(fine: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    blocks = fine.reshape(size, _FINER, size, _FINER, -1)
    mean: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return mean


def _box(cover: NDArray[np.float64]) -> Box:
    rows, columns = np.nonzero(cover.max(1) > 0)[0], np.nonzero(cover.max(0) > 0)[0]
    y0, y1, x0, x1 = rows[0], rows[-1], columns[0], columns[-1]
    return int(x0), int(y0), int(x1 - x0 + 1), int(y1 - y0 + 1)
