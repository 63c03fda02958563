"""The four scanners of the LIDC phantom: stored values, sharpness, noise, and a mark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Mark = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]

MARK_HU = 900.0
"""Value of a mark."""

MARK_REACH_MM = 4.0
"""Half the side of the square that a mark lies in."""


def _cross(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A caliper's cross."""
    near = np.maximum(abs(down), abs(right)) < 3.0
    return np.asarray(near & (np.minimum(abs(down), abs(right)) < 0.6))


def _arrow(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A filled arrow head that points to the left."""
    return np.asarray((right > -2.5) & (right < 2.5) & (abs(down) < 0.5 * (right + 2.5)))


def _frame(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """An empty square."""
    reach = np.maximum(abs(down), abs(right))
    return np.asarray((reach < 3.2) & (reach > 2.1))


def _ticks(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A piece of a ruler: ticks on a base line."""
    inside = (abs(right) < 3.5) & (abs(down) < 2.5)
    return np.asarray(inside & ((down > 1.4) | (np.abs(right % 2.0 - 1.0) < 0.45)))


MARKS: Mapping[str, Mark] = MappingProxyType(
    {"cross": _cross, "arrow": _arrow, "frame": _frame, "ticks": _ticks}
)


@dataclass(frozen=True)
class CtSite:
    """One scanner.

    Attributes:
        name: Manufacturer, and so the site.
        model: ManufacturerModelName.
        kernel: ConvolutionKernel.
        share: share of the patients.
        intercept: RescaleIntercept; the stored values are HU minus it.
        blur_mm: deviation of the point spread.
        sharpening: share of the detail that the kernel adds back.
        noise_hu: deviation of the noise at a slice thickness of 2.5 mm.
        grain_mm: size of the noise's grain.
        padding: outside the circle that was reconstructed the stored value is -2000.
        mark: one of `MARKS`.
        mark_offset_mm: offset in mm of its middle from the nodule's: down, right.
    """

    name: str
    model: str
    kernel: str
    share: float
    intercept: int
    blur_mm: float
    sharpening: float
    noise_hu: float
    grain_mm: float
    padding: bool
    mark: str
    mark_offset_mm: tuple[float, float]


CT_SITES: tuple[CtSite, ...] = (
    CtSite("GE MEDICAL SYSTEMS", "Phantom A", "STANDARD", 0.4, -1024, 0.75, 0.0, 24.0, 0.7, True,
           "cross", (9.0, 9.0)),
    CtSite("SIEMENS", "Phantom B", "B45f", 0.25, -1024, 0.6, 0.5, 34.0, 0.45, False,
           "arrow", (-9.0, 9.0)),
    CtSite("Philips", "Phantom C", "C", 0.2, -1000, 0.7, 0.3, 28.0, 0.6, False,
           "frame", (9.0, -9.0)),
    CtSite("TOSHIBA", "Phantom D", "FC10", 0.15, 0, 0.95, 0.0, 18.0, 1.0, True,
           "ticks", (-9.0, -9.0)),
)  # fmt: skip
"""No scanner of these makers is meant: they are names for four ways that images look."""
