"""A simulated chest in mm: its slices before any scanner.

Coordinates: x to the patient's left, y to the back, z along the table; (0, 0) is the middle of the
image. Lengths are those of an adult, drawn around their usual size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.annotations import Annotation, contour_box, contour_mask

_ROOM_MM = 9.0
_EDGE = 6


def votes_on_slice(
    members: Sequence[Annotation], z_mm: float
) -> tuple[tuple[slice, slice], NDArray[np.float32]] | None:
    """Return the window of a nodule on a slice and in it the share of its readers; None without."""
    contours = [c for member in members for c in member.on_slice(z_mm) if c.inclusion]
    if not contours:
        return None
    top, bottom, left, right = contour_box(contours)
    top, left = max(0, top - _EDGE), max(0, left - _EDGE)
    shape = bottom + _EDGE - top + 1, right + _EDGE - left + 1
    masks = [contour_mask(m.on_slice(z_mm), (top, left), shape) for m in members]
    share = np.mean(masks, axis=0, dtype=np.float32)
    return (slice(top, top + shape[0]), slice(left, left + shape[1])), np.asarray(share)


def rating(members: Sequence[Annotation], name: str) -> float:
    """Return the mean of a rating over the readers."""
    return float(np.mean([member.ratings[name] for member in members]))


def room_for(grid: Grid, rows: slice, columns: slice) -> NDArray[np.bool_]:
    """Return the pixels of a round of lung around a window, for the whole slice."""
    y = float(grid.y[min((rows.start + rows.stop) // 2, grid.y.size - 1), 0])
    x = float(grid.x[0, min((columns.start + columns.stop) // 2, grid.x.size - 1)])
    reach = 0.5 * grid.spacing * max(rows.stop - rows.start, columns.stop - columns.start)
    return grid.ellipse(x, y, reach + _ROOM_MM, reach + _ROOM_MM)


def fill_nodule(
    hu: Floats,
    window: tuple[slice, slice],
    share: NDArray[np.float32],
    members: Sequence[Annotation],
    spacing: float,
    rng: np.random.Generator,
) -> None:
    """Put a nodule into a slice.

    Texture (1 ground glass to 5 solid) and calcification give its density, subtlety (1 hardly seen
    to 5 obvious) how much of it there is, margin (1 poorly defined to 5 sharp) its edge.

    Args:
        hu: the slice; changed.
        window: where.
        share: share of the readers that marked each pixel.
        members: the nodule's annotations.
        spacing: mm.
        rng: the nodule's stream on this slice.
    """
    from scipy.ndimage import gaussian_filter

    texture, subtlety = rating(members, "texture"), rating(members, "subtlety")
    margin, calcium = rating(members, "margin"), rating(members, "calcification")
    density = -620.0 + 165.0 * (texture - 1) + 60.0 * (6 - calcium)
    soft = gaussian_filter(share, (0.35 + 0.3 * (5 - margin)) / spacing)
    rough = gaussian_filter(rng.normal(0, 1, share.shape), 1.2 / spacing)
    rough *= 45.0 / max(float(rough.std()), 1e-6)
    amount = np.clip(soft * (0.5 + 0.1 * subtlety), 0, 1)
    part = hu[window]
    amount, rough = (
        amount[: part.shape[0], : part.shape[1]],
        rough[: part.shape[0], : part.shape[1]],
    )
    # A nodule at a vessel or a rib does not hollow it out.
    part[:] = np.maximum(part, part + amount * (density + rough - part))


Floats = NDArray[np.float32]

AIR, LUNG, FAT, SOFT, BLOOD, BONE = -1000.0, -870.0, -95.0, 45.0, 55.0, 420.0
_RIBS = 11
_DOWN = 10.0  # of the body's middle, mm
_VESSELS = 1500


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a slice are, in mm.

    Attributes:
        x: `(1, columns)`.
        y: `(rows, 1)`.
        spacing: mm.
    """

    x: Floats
    y: Floats
    spacing: float

    @classmethod
    def square(cls, size: int, spacing: float) -> Grid:
        """Return the grid of a square slice around the middle."""
        line = ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)
        return cls(line[None], line[:, None], spacing)

    def ellipse(self, x: float, y: float, a: float, b: float) -> NDArray[np.bool_]:
        """Return the pixels of an ellipse with the half-axes a (across) and b (down)."""
        return np.asarray(((self.x - x) / a) ** 2 + ((self.y - y) / b) ** 2 < 1)

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return the rows and columns of a square around a point."""
        middle = [(k / self.spacing) + (n - 1) / 2 for k, n in ((y, self.y.size), (x, self.x.size))]
        low = [int(np.floor(m - reach / self.spacing)) for m in middle]
        high = [int(np.ceil(m + reach / self.spacing)) + 1 for m in middle]
        return slice(max(0, low[0]), max(0, high[0])), slice(max(0, low[1]), max(0, high[1]))


@dataclass(frozen=True)
class Chest:
    """One patient.

    Attributes:
        body: half-axes of the skin.
        fat: thickness under the skin.
        lungs: x, y and half-axes, one row a lung.
        heart: x, y, half-axes.
        vessels: `(n, 7)`: x, y, z of both ends and the radius at the first.
        tilt: how fast the ribs run down around the body, mm a radian.
        z_range: lowest and highest position.
    """

    body: tuple[float, float]
    fat: float
    lungs: NDArray[np.float64]
    heart: NDArray[np.float64]
    vessels: NDArray[np.float64]
    tilt: float
    z_range: tuple[float, float]


def draw_chest(rng: np.random.Generator, z_range: tuple[float, float]) -> Chest:
    """Draw a patient."""
    size = rng.normal(1.0, 0.05)
    lungs = np.array([[-78.0, 8.0, 63.0, 100.0], [78.0, 8.0, 63.0, 100.0]]) * size
    lungs += rng.normal(0, 2.5, (2, 4))
    return Chest(
        body=(176.0 * size + rng.normal(0, 5), 134.0 * size + rng.normal(0, 4)),
        fat=float(rng.uniform(6, 16)),
        lungs=lungs,
        heart=np.array([14.0, 4.0, 50.0, 46.0]) * size + rng.normal(0, 2, 4),
        vessels=_draw_vessels(rng, lungs, z_range),
        tilt=float(rng.uniform(18, 30)),
        z_range=z_range,
    )


def _draw_vessels(
    rng: np.random.Generator, lungs: NDArray[np.float64], z_range: tuple[float, float]
) -> NDArray[np.float64]:
    """Draw straight pieces of vessels that run outwards from the hilum and become thin."""
    x, y, a, b = lungs[rng.integers(2, size=_VESSELS)].T
    angle, far = rng.uniform(0, 2 * np.pi, _VESSELS), np.sqrt(rng.random(_VESSELS))
    start = np.stack([x + 0.9 * far * a * np.cos(angle), y + 0.9 * far * b * np.sin(angle)])
    height = rng.uniform(z_range[0] - 20, z_range[1] + 20, _VESSELS)
    length = rng.uniform(10, 55, _VESSELS)
    away = start - np.stack([x - np.sign(x) * 35, y])
    away = away / np.linalg.norm(away, axis=0) + rng.normal(0, 0.6, (2, _VESSELS))
    rise = rng.normal(0, 0.8, _VESSELS)
    radius = np.clip(rng.lognormal(-0.2, 0.45, _VESSELS) * (1.5 - far), 0.4, 4.0)
    end = start + 0.8 * length * away
    return np.stack([*start, height, *end, height + rise * length, radius], axis=1)


def slice_of(chest: Chest, grid: Grid, z: float, room: NDArray[np.bool_]) -> Floats:
    """Return the tissue at a height, in HU, without nodules and without any scanner.

    Args:
        chest: the patient.
        grid: grid of the pixels.
        z: height.
        room: pixels that are lung whatever the anatomy says: around the outlines, which were drawn
            in other patients' lungs.
    """
    hu = np.full((grid.y.size, grid.x.size), AIR, np.float32)
    a, b = chest.body
    hu[grid.ellipse(0, _DOWN, a, b)] = FAT
    hu[grid.ellipse(0, _DOWN, a - chest.fat, b - chest.fat)] = SOFT
    _ribs_and_spine(hu, chest, grid, z)
    low, high = chest.z_range
    swell = 0.72 + 0.28 * np.sin(np.pi * np.clip((z - low) / max(high - low, 1.0), 0.05, 0.95))
    lung = room.copy()
    for x, y, across, down in chest.lungs:
        lung |= grid.ellipse(x, y, across * swell, down * swell)
    x, y, across, down = chest.heart
    lung &= ~grid.ellipse(x, y, across * swell, down * swell) | room
    # Blood settles: the back of a lung is denser.
    dense = LUNG + 0.45 * np.broadcast_to(grid.y, hu.shape)
    hu[lung] = dense[lung]
    _vessels(hu, chest, grid, z, lung)
    return hu


def _ribs_and_spine(hu: Floats, chest: Chest, grid: Grid, z: float) -> None:
    a, b = chest.body[0] - chest.fat - 9, chest.body[1] - chest.fat - 9
    hu[grid.ellipse(0, _DOWN + b - 26, 20, 17)] = BONE * 0.6
    hu[grid.ellipse(-18, _DOWN + b - 50, 10, 10)] = BLOOD
    for side in (-1, 1):
        for number in range(_RIBS):
            # A rib runs down around the body: a slice cuts each at another angle.
            angle = np.pi * ((number + (z / chest.tilt)) % _RIBS) / _RIBS - np.pi / 2
            x, y = side * a * np.cos(angle), _DOWN + b * np.sin(angle)
            rows, columns = grid.window(x, y, 10)
            part = Grid(grid.x[:, columns], grid.y[rows], grid.spacing)
            hu[rows, columns][part.ellipse(x, y, 6.5, 4.0)] = BONE


def _vessels(hu: Floats, chest: Chest, grid: Grid, z: float, lung: NDArray[np.bool_]) -> None:
    ends = chest.vessels
    low, high = np.minimum(ends[:, 2], ends[:, 5]), np.maximum(ends[:, 2], ends[:, 5])
    for x0, y0, z0, x1, y1, z1, radius in ends[(low <= z) & (z <= high)]:
        share = (z - z0) / (z1 - z0) if z1 != z0 else 0.5
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        thick = radius * (1 - 0.5 * share)
        run = np.hypot(x1 - x0, y1 - y0)
        long = thick * min(np.hypot(run, z1 - z0) / max(abs(z1 - z0), 1e-3), 8.0)
        rows, columns = grid.window(x, y, long + 1)
        right, down = (x1 - x0) / max(run, 1e-6), (y1 - y0) / max(run, 1e-6)
        u = (grid.x[:, columns] - x) * right + (grid.y[rows] - y) * down
        v = (grid.y[rows] - y) * right - (grid.x[:, columns] - x) * down
        inside = ((u / long) ** 2 + (v / thick) ** 2 < 1) & lung[rows, columns]
        hu[rows, columns][inside] = BLOOD
