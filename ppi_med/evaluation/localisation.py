"""Whether the map points at the object: energy in a box or mask (Table 7), the pointing game."""

from __future__ import annotations

import torch
from torch import Tensor

from ppi_med.evaluation.measures import Measure, ranks

ENERGY = Measure("energy_inside", 1)
POINTING = Measure("pointing_game", 1)


def energy_inside(values: Tensor, mask: Tensor, top: int | None = None) -> Tensor:
    """Return the share of the map's energy that is in the mask, of all or of the top points.

    Args:
        values: `(N, *spatial)` of 0 or more, see `pixel_values`.
        mask: `(N, *spatial)`, boolean.
        top: count only this many highest points (default all).

    Returns:
        `(N,)` in [0, 1]; NaN where the map is 0 everywhere.

    Raises:
        ValueError: if shapes differ or a value is negative.

    Examples:
        >>> values = torch.tensor([[3.0, 1.0, 0.0]])
        >>> energy_inside(values, torch.tensor([[True, False, False]])).tolist()
        [0.75]
    """
    _check(values, mask)
    if bool((values < 0).any()):
        raise ValueError(
            "a map has values below 0, expected energies: reduce it by 'positive_sum' or 'abs_sum'"
        )
    energy = values if top is None else values * top_points(values, top)
    inside = (energy * mask).flatten(1).sum(1)
    return inside / energy.flatten(1).sum(1)


def top_points(values: Tensor, count: int) -> Tensor:
    """Return the mask `(N, *spatial)` of the highest points; ties in the order of pixels.

    Raises:
        ValueError: if the count is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least one point")
    return ranks(values) < count


def pointing_game(values: Tensor, mask: Tensor) -> Tensor:
    """Return 1 where the highest point is in the mask, else 0.

    If several points are equally high, their share inside counts, so that a constant map scores the
    mask's area. With an empty mask the result is 0.

    Args:
        values: `(N, *spatial)`.
        mask: `(N, *spatial)`, boolean.

    Returns:
        `(N,)` in [0, 1].

    Examples:
        >>> pointing_game(torch.zeros(1, 4), torch.tensor([[True, False, False, False]])).tolist()
        [0.25]
    """
    _check(values, mask)
    flat = values.flatten(1)
    highest = flat == flat.amax(1, keepdim=True)
    inside = (highest & mask.flatten(1)).sum(1)
    return inside / highest.sum(1)


def box_mask(boxes: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Return masks `(N, *spatial)` of boxes.

    Args:
        boxes: `(N, 2 d)`: the first pixel of each axis, then the first one after the box.
        spatial: size of the d axes.

    Raises:
        ValueError: if the number of columns is not 2 d.

    Examples:
        >>> box_mask(torch.tensor([[0, 1, 1, 3]]), (2, 3)).int().tolist()
        [[[0, 1, 1], [0, 0, 0]]]
    """
    d = len(spatial)
    if boxes.ndim != 2 or boxes.shape[1] != 2 * d:
        raise ValueError(f"boxes have shape {tuple(boxes.shape)}, expected (N, {2 * d})")
    mask = torch.ones(len(boxes), *spatial, dtype=torch.bool, device=boxes.device)
    for axis, size in enumerate(spatial):
        shape = [-1] + [size if other == axis else 1 for other in range(d)]
        place = torch.arange(size, device=boxes.device).view(1, -1)
        inside = (place >= boxes[:, axis : axis + 1]) & (place < boxes[:, d + axis : d + axis + 1])
        mask &= inside.view(shape)
    return mask


def _check(values: Tensor, mask: Tensor) -> None:
    if values.shape != mask.shape:
        raise ValueError(
            f"got {tuple(values.shape)} with a mask {tuple(mask.shape)}, expected one shape "
            "(N, *spatial)"
        )
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask is {mask.dtype}, expected boolean")
