"""The habitat-like backgrounds, each drawn anew for every image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float64]
Paint = Callable[[int, np.random.Generator], Floats]


def _noise(size: int, rng: np.random.Generator, sigma: float | tuple[float, float]) -> Floats:
    """Smooth noise ``(size, size)`` of mean 0 and standard deviation 1."""
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
    """Return a background ``(size, size, 3)`` of 0 to 255; light and tint vary.

    Args:
        name: one of :data:`HABITATS`.
        size: side in pixels.
        rng: of what is drawn.
    """
    picture = HABITATS[name](size, rng)
    light, tint = rng.uniform(0.85, 1.12), rng.uniform(0.94, 1.06, size=3)
    return np.clip(picture * light * tint, 0, 255)
