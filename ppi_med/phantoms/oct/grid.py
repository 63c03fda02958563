"""Where the samples of an OCT volume lie, in mm, and smooth random fields on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError

Field = NDArray[np.float32]

FIELD_MM = 6.7
"""Side of the square that the widest site scans, as in the GA study's volumes."""
DEPTH_MM = 1.4
"""Depth of a B-scan."""


@dataclass(frozen=True)
class Size:
    """Samples of the widest site's volume; a narrower site has fewer A-scans at the same step.

    Attributes:
        depth: rows of a B-scan.
        width: A-scans of a B-scan.
        slices: B-scans.
    """

    depth: int = 64
    width: int = 80
    slices: int = 24

    def __post_init__(self) -> None:
        least = {"depth": 32, "width": 32, "slices": 8}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UsageError(
                    f"{name} is {getattr(self, name)}, expected {smallest} or more: "
                    "a retina cannot be drawn on fewer samples."
                )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Steps in mm: lateral, axial, between B-scans."""
        return FIELD_MM / self.width, DEPTH_MM / self.depth, FIELD_MM / self.slices


FULL_SIZE = Size(depth=512, width=1000, slices=100)
"""What the GA study's scanner gave: 100 B-scans of 512 x 1000."""


@dataclass(frozen=True)
class Grid:
    """Coordinates in mm of one volume's samples.

    Attributes:
        x: (W,) lateral, 0 in the middle of the scan, in the order of the A-scans.
        y: (S,) across the B-scans, 0 in the middle.
        z: (D,) depth, 0 at the top of the B-scan.
        spacing_mm: lateral, axial, between B-scans.
    """

    x: Field
    y: Field
    z: Field
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, size: Size, width: int) -> Grid:
        """Return the grid of a site with `width` A-scans."""
        lateral, axial, between = size.spacing_mm
        return cls(
            x=_centred(width, lateral),
            y=_centred(size.slices, between),
            z=((np.arange(size.depth) + 0.5) * axial).astype(np.float32),
            spacing_mm=(lateral, axial, between),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """En-face shape (S, W)."""
        return len(self.y), len(self.x)

    def radius(self, x: float, y: float) -> Field:
        """Return the en-face distance in mm to the point (x, y), shape (S, W)."""
        return np.asarray(np.hypot(self.x[None, :] - x, self.y[:, None] - y), dtype=np.float32)


class SmoothNoise:
    """Smooth noise of mean 0 and deviation about 1: values on a coarse grid, blended between.

    The coarse grid is laid in mm and is always as large as the widest field, so a draw gives the
    same pattern at every resolution and for every width.

    Args:
        rng: where the coarse values come from.
        cells_mm: distance of the coarse grid's points along each axis.
    """

    def __init__(self, rng: np.random.Generator, cells_mm: tuple[float, ...]) -> None:
        self.cells_mm = cells_mm
        self._reach = [int(np.ceil(FIELD_MM / 2 / cell)) + 1 for cell in cells_mm]
        self._values = rng.standard_normal([2 * r + 2 for r in self._reach], dtype=np.float32)

    def __call__(self, *axes: Field) -> Field:
        """Return the noise at the points of a grid.

        Args:
            axes: coordinates in mm along each axis, within half the field of 0.

        Returns:
            Array of shape `tuple(map(len, axes))`.
        """
        values = self._values
        for number, (axis, cell) in enumerate(zip(axes, self.cells_mm, strict=True)):
            position = axis / np.float32(cell) + np.float32(self._reach[number])
            low = np.floor(position).astype(np.intp)
            part = (position - low).astype(np.float32)
            part = part * part * (3 - 2 * part)
            part = part.reshape([-1 if a == number else 1 for a in range(values.ndim)])
            below = np.take(values, low, axis=number)
            above = np.take(values, low + 1, axis=number)
            values = below + (above - below) * part
        # The blend of two values has 0.743 of their variance on average, along each axis.
        return np.asarray(values / np.float32(0.743 ** (len(axes) / 2)), dtype=np.float32)


def _centred(count: int, step: float) -> Field:
    return ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
