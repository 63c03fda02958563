"""A bird on its habitat as pixels, with the bird's box."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from ppi_med.phantoms.base import stream
from ppi_med.phantoms.birds.shapes import SPECIES, Part, bird_parts, placed

Floats = NDArray[np.float64]
Paint = Callable[[int, np.random.Generator], Floats]


def _noise(size: int, rng: np.random.Generator, sigma: float | tuple[float, float]) -> Floats:
    """Smooth noise `(size, size)` of mean 0 and standard deviation 1."""
    field: Floats = gaussian_filter(rng.standard_normal((size, size)), sigma, mode="wrap")
    scaled: Floats = field / field.std()
    return scaled


def _mixed(low: tuple[int, ...], high: tuple[int, ...], share: Floats) -> Floats:
    share = np.clip(share, 0, 1)[..., None]
    return np.asarray(low) * (1 - share) + np.asarray(high) * share


def _sea(size: int, rng: np.random.Generator) -> Floats:
    waves = _noise(size, rng, (0.6, 5.0))
    return _mixed((32, 70, 116), (120, 166, 196), 0.45 + 0.22 * waves)


def _reeds(size: int, rng: np.random.Generator) -> Floats:
    stalks = _noise(size, rng, (12.0, 0.7))
    return _mixed((66, 84, 36), (188, 186, 104), 0.5 + 0.26 * stalks)


def _forest(size: int, rng: np.random.Generator) -> Floats:
    leaves = _noise(size, rng, 1.6)
    return _mixed((14, 40, 20), (86, 124, 56), 0.4 + 0.26 * leaves)


def _sand(size: int, rng: np.random.Generator) -> Floats:
    grains = 0.5 * _noise(size, rng, 0.5) + _noise(size, rng, 6.0)
    return _mixed((170, 140, 96), (232, 208, 164), 0.5 + 0.2 * grains)


def _rock(size: int, rng: np.random.Generator) -> Floats:
    rough = np.abs(_noise(size, rng, 2.2)) - 0.3 * np.abs(_noise(size, rng, 0.8))
    return _mixed((150, 146, 142), (62, 60, 64), 0.4 + 0.3 * rough)


def _snow(size: int, rng: np.random.Generator) -> Floats:
    drifts = _noise(size, rng, (4.0, 8.0))
    return _mixed((190, 202, 220), (246, 248, 250), 0.6 + 0.25 * drifts)


def _dusk(size: int, rng: np.random.Generator) -> Floats:
    height = np.linspace(0, 1, size)[:, None] + 0.06 * _noise(size, rng, (2.0, 9.0))
    return _mixed((88, 62, 116), (232, 142, 92), height)


def _heath(size: int, rng: np.random.Generator) -> Floats:
    tufts = _noise(size, rng, 1.0) + 0.6 * _noise(size, rng, 4.0)
    return _mixed((96, 104, 60), (164, 92, 140), 0.4 + 0.28 * tufts)


HABITATS: dict[str, Paint] = {
    "sea": _sea,
    "reeds": _reeds,
    "forest": _forest,
    "sand": _sand,
    "rock": _rock,
    "snow": _snow,
    "dusk": _dusk,
    "heath": _heath,
}


def paint_habitat(name: str, size: int, rng: np.random.Generator) -> Floats:
    """Return a background `(size, size, 3)` of 0 to 255; light and tint vary."""
    picture = HABITATS[name](size, rng)
    light, tint = rng.uniform(0.85, 1.12), rng.uniform(0.94, 1.06, size=3)
    return np.clip(picture * light * tint, 0, 255)


# Drawn this many times larger, then averaged: smooth edges.
_FINER = 4
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def render_bird(name: str, species: int, habitat: str, size: int, seed: int) -> tuple[Pixels, Box]:
    """Return the picture and the box of the bird.

    The bird depends on the seed and the name alone: the same bird can be put on another habitat.

    Returns:
        `(size, size, 3)` and the box x, y, width, height in whole pixels.

    Examples:
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
    """Return colours `(size, size, 3)` and how much of each pixel is the bird's."""
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
