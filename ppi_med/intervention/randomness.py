"""All randomness of the interventions: explicit generators, resumable, drawn on the CPU.

Draws are made on the CPU and then moved, so that the same seed gives the same partners and places
on every device, and no draw waits for the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from ppi_med.intervention.numeric import check_image


class RandomState:
    """A CPU generator with a seed and a `state_dict`.

    Args:
        seed: seed of the generator.

    Examples:
        >>> a, b = RandomState(3), RandomState(4)
        >>> b.load_state_dict(a.state_dict())
        >>> torch.equal(torch.rand(2, generator=a.generator), torch.rand(2, generator=b.generator))
        True
    """

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator()
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start again from a seed (for example seed + rank)."""
        self.generator.manual_seed(int(seed))

    def separate(self, rank: int) -> None:
        """Continue with a process's own draws, see `separate`."""
        separate(self.generator, rank)

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`, wherever the checkpoint was mapped to."""
        self.generator.set_state(state["generator"].cpu())


def process_rank() -> int:
    """Return the number of this process among those that train together, 0 for a single one."""
    in_use = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() if in_use else 0


def separate(generator: torch.Generator, rank: int) -> None:
    """Give a process its own draws, derived from a state that all processes share.

    The first process continues unchanged: it alone writes checkpoints, and a resumed run gives its
    state to all, which then separate again.

    >>> one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    >>> separate(other, rank=1)
    >>> bool(torch.rand(1, generator=one) == torch.rand(1, generator=other))
    False
    """
    if rank > 0:
        seeds = torch.randint(2**32, (rank,), generator=generator)
        generator.manual_seed(int(seeds[-1]))


def random_cycle(size: int, generator: torch.Generator) -> Tensor:
    """Draw a partner for each of `size` samples, `(size,)` int64 on the CPU.

    One random cycle through all samples: each sample is a partner once and, unless alone, never its
    own.

    >>> random_cycle(1, torch.Generator())
    tensor([0])
    """
    order = torch.randperm(size, generator=generator)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner


def _shift_axes(image: Tensor, axes: Sequence[int] | None) -> tuple[int, ...]:
    spatial = range(2, image.dim())
    chosen = tuple(spatial) if axes is None else tuple(axes)
    if not chosen or any(axis not in spatial for axis in chosen):
        raise ValueError(
            f"axes are {list(chosen)} for a tensor of {image.dim()} dimensions: choose spatial "
            f"axes from {list(spatial)}."
        )
    return chosen


def shift_each(image: Tensor, shifts: Mapping[int, Tensor]) -> Tensor:
    """Shift each sample circularly by its own number of pixels along each axis given.

    Args:
        image: `(N, C, *spatial)`.
        shifts: axis (2 or more) -> `(N,)` int64; as `torch.roll` of one sample at a time.

    Returns:
        The shifted images, same shape; differentiable.

    >>> shift_each(torch.arange(6.0).view(2, 1, 3), {2: torch.tensor([1, 2])})
    tensor([[[2., 0., 1.]],
    <BLANKLINE>
            [[4., 5., 3.]]])
    """
    for axis, shift in shifts.items():
        length = image.shape[axis]
        shift = shift.to(image.device, non_blocking=True)
        place = (torch.arange(length, device=image.device) - shift[:, None]) % length
        shape = [1] * image.dim()
        shape[0], shape[axis] = image.shape[0], length
        image = image.gather(axis, place.view(shape).expand(image.shape))
    return image


def move_at_random(
    image: Tensor, generator: torch.Generator, axes: Sequence[int] | None = None
) -> Tensor:
    """Shift each sample circularly to a place drawn uniformly.

    Args:
        image: `(N, C, *spatial)`, for example masks.
        generator: a CPU generator.
        axes: the axes to shift along, from 2 on; default all spatial ones.

    Raises:
        TypeError: the image is not floating.
        ValueError: an axis is not a spatial one.

    >>> mask = torch.eye(4).view(1, 1, 4, 4)
    >>> move_at_random(mask, torch.Generator().manual_seed(0)).sum().item()
    4.0
    """
    check_image(image, "image")
    size = image.shape[0]
    shifts = {
        axis: torch.randint(image.shape[axis], (size,), generator=generator)
        for axis in _shift_axes(image, axes)
    }
    return shift_each(image, shifts)
