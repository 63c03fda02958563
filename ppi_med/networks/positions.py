"""The place of a slice in its volume, as one of a fixed number of ids."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_positions(
    num_slices: int, num_positions: int = 100, device: torch.device | None = None
) -> Tensor:
    """Map the slices of a volume to position ids by relative place.

    The volume is cut into `num_positions` parts of equal width, and slice i (from 0) takes the
    id of the part with its centre: `1 + floor((i + 1/2) / num_slices * num_positions)`.
    A volume of exactly `num_positions` slices gets 1, 2, 3, ...; a larger one repeats ids, a
    smaller one leaves some out.

    Args:
        num_slices: number of slices of the whole volume, not of a sample drawn from it.
        num_positions: number of ids.
        device: device of the result; default: the CPU.

    Returns:
        LongTensor `(num_slices,)` of ids in `1 .. num_positions`, ascending.

    Raises:
        ValueError: if either number is less than 1.

    Examples:
        >>> relative_positions(4)
        tensor([13, 38, 63, 88])
        >>> relative_positions(6, num_positions=3)
        tensor([1, 1, 2, 2, 3, 3])
    """
    if num_slices < 1 or num_positions < 1:
        raise ValueError(
            f"got {num_slices} slices and {num_positions} positions, expected 1 or more of both."
        )
    index = torch.arange(num_slices, device=device)
    doubled = (2 * index + 1) * num_positions
    return torch.div(doubled, 2 * num_slices, rounding_mode="floor") + 1
