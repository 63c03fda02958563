"""Where B-scans lie: parallel and equally far apart, or else no distance is stated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOLERANCE_MM = 0.0015
"""Vendors write positions with three decimals: a step read from two of them is off by 0.001."""


def between_bscans(
    starts: Sequence[Sequence[float]],
    ends: Sequence[Sequence[float]],
    *,
    tolerance: float = TOLERANCE_MM,
) -> tuple[float | None, str]:
    """Return the distance between neighbouring B-scans in mm, or why there is none.

    Args:
        starts: position of the first A-scan of each B-scan, 2 or 3 coordinates in mm.
        ends: position of the last one.
        tolerance: in mm, for directions and steps.

    Returns:
        The distance and "", or `None` and a sentence that names the B-scans (counted from 1).
        One B-scan has no distance and needs no sentence.

    Examples:
        >>> between_bscans([(0, 6), (0, 5.97), (0, 5.94)], [(5, 6), (5, 5.97), (5, 5.94)])
        (0.03, '')
        >>> between_bscans([(0, 6), (0, 5.97), (0, 5.90)], [(5, 6), (5, 5.97), (5, 5.90)])[0]
    """
    first = np.asarray(starts, np.float64)
    last = np.asarray(ends, np.float64)
    if len(first) < 2:
        return None, ""
    along = last - first
    length = np.linalg.norm(along, axis=1)
    if not np.isfinite(along).all() or length.min() <= tolerance:
        return None, "B-scans without a start and an end: their distance stays unknown."
    turned = np.flatnonzero(np.abs(along - along[0]).max(axis=1) > 2 * tolerance)
    if turned.size:
        return None, (
            f"B-scan {turned[0] + 1} is not parallel to B-scan 1 or not as long: "
            "the distance between B-scans stays unknown."
        )
    direction = along[0] / length[0]
    steps = np.diff(first, axis=0)
    across = steps - np.outer(steps @ direction, direction)
    mean = across.mean(axis=0)
    distance = float(np.linalg.norm(mean))
    if distance <= tolerance:
        return None, "B-scans at one and the same place: their distance stays unknown."
    uneven = np.flatnonzero(np.abs(across - mean).max(axis=1) > tolerance)
    if uneven.size:
        number = int(uneven[0])
        return None, (
            f"uneven steps: {np.linalg.norm(across[number]):.4f} mm from B-scan {number + 1} to "
            f"{number + 2}, {distance:.4f} mm on average ({uneven.size} steps differ by more than "
            f"{tolerance} mm): the distance between B-scans stays unknown."
        )
    return float(f"{distance:.9g}"), ""
