"""From outlines to pixels, by the rule of LIDC and pylidc.

A pixel belongs to the nodule if its centre is strictly inside an inclusion contour and it is not
one of the contour's own pixels; exclusion contours are taken away with their own pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.annotations import Contour


def contour_mask(
    contours: Sequence[Contour], origin: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the pixels inside the contours of one reader on one slice.

    Args:
        contours: of one slice.
        origin: row and column of the window's first pixel; it may be negative.
        shape: of the window.

    Returns:
        bool, of `shape`. Contours may reach over the window's edge.

    Examples:
        >>> square = np.array([(r, c) for r in range(5) for c in range(5) if {r, c} & {0, 4}])
        >>> ring = [(0, c) for c in range(5)] + [(r, 4) for r in range(1, 5)]
        >>> ring += [(4, c) for c in (3, 2, 1, 0)] + [(r, 0) for r in (3, 2, 1)]
        >>> mask = contour_mask([Contour(0.0, True, np.array(ring))], (0, 0), (5, 5))
        >>> int(mask.sum()), bool(mask[0, 0]), bool(mask[1, 1])
        (9, False, True)
    """
    mask = np.zeros(shape, bool)
    for wanted in (True, False):
        for contour in contours:
            if contour.inclusion is wanted:
                _fill(mask, contour, np.array(origin))
    return mask


def contour_box(contours: Sequence[Contour]) -> tuple[int, int, int, int]:
    """Return the first and last row, the first and last column of contours, outlines included.

    Raises:
        ValueError: for no contours.
    """
    if not contours:
        raise ValueError("no contour was given, expected at least one.")
    points = np.concatenate([contour.points for contour in contours])
    (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
    return int(top), int(bottom), int(left), int(right)


def _fill(mask: NDArray[np.bool_], contour: Contour, origin: NDArray[np.int64]) -> None:
    """Set (inclusion) or clear (exclusion) the pixels of one contour, in its own box only."""
    from matplotlib.path import Path as Outline

    points = contour.points - origin
    low = np.maximum(points.min(axis=0), 0)
    high = np.minimum(points.max(axis=0) + 1, mask.shape)
    if (high <= low).any():
        return
    grid = np.moveaxis(np.indices(high - low), 0, -1) + low
    closed = points if (points[0] == points[-1]).all() else np.vstack([points, points[:1]])
    inside = Outline(closed, closed=True).contains_points(grid.reshape(-1, 2))
    inside = inside.reshape(grid.shape[:2])
    part = mask[low[0] : high[0], low[1] : high[1]]
    if contour.inclusion:
        part |= inside
    else:
        part &= ~inside
    own = points[((points >= low) & (points < high)).all(axis=1)] - low
    part[own[:, 0], own[:, 1]] = False
