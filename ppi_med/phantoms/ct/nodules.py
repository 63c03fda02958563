"""What fills the readers' outlines: tissue as their ratings describe it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.annotations import Annotation, contour_box, contour_mask
from ppi_med.phantoms.ct.chest import Floats, Grid

_ROOM_MM = 9.0
_EDGE = 6


def votes_on_slice(
    members: Sequence[Annotation], z_mm: float
) -> tuple[tuple[slice, slice], NDArray[np.float32]] | None:
    """Return the window of a nodule on a slice and in it the share of its readers; None without.

    Args:
        members: the nodule's annotations.
        z_mm: of the slice.
    """
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
        share: of the readers that marked each pixel.
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
