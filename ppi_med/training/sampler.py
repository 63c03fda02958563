"""An order of cases that depends on the seed and the epoch only, and can start in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data.distributed import DistributedSampler

from ppi_med.distributed import rank as this_rank
from ppi_med.distributed import world_size
from ppi_med.training.rng import derive_seeds


class Draw(NamedTuple):
    """One case to load.

    Attributes:
        case: index into the dataset.
        seed: of everything random that happens to this case in this epoch.
    """

    case: int
    seed: int


class EpochSampler(DistributedSampler[Any]):
    """Yields :class:`Draw`, in an order fixed by (seed, epoch), for this process's share.

    It is a `DistributedSampler` so that MONAI's trainers tell it the epoch. The draw at a place of
    the epoch's order is the same for any batch size, number of workers and number of processes.

    Args:
        dataset: only its length is used.
        seed: of the order and of the draws, 0 or more.
        shuffle: each case once in random order; False: in the order of the dataset.
        weights: one a case, to draw with replacement in proportion (a rare class more often);
            `shuffle` then does not matter.
        drop_last: with several processes, leave out the rest instead of repeating cases to fill.
        num_replicas: number of processes; default from torch.distributed, 1 where it is not in use.
        rank: of this process; default likewise.

    Raises:
        ValueError: for a negative seed, or weights of another number or not all finite and >= 0.

    Examples:
        >>> sampler = EpochSampler(range(4), seed=1)
        >>> sorted(draw.case for draw in sampler)
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int = 0,
        shuffle: bool = True,
        weights: Sequence[float] | None = None,
        drop_last: bool = False,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        if seed < 0:
            raise ValueError(f"Got seed={seed}, expected 0 or more.")
        super().__init__(
            dataset,  # type: ignore[arg-type]
            num_replicas=num_replicas or world_size(),
            rank=rank if rank is not None else this_rank(),
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
        )
        self._chances = None if weights is None else _chances(weights, len(dataset))
        self._skip = 0
        self._round = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next. A position given by :meth:`start_at` is kept."""
        self.epoch = epoch
        self._round = 0

    def start_at(self, position: int) -> None:
        """Leave out what this process has had of the epoch; holds for the next iteration only.

        Args:
            position: number of cases this process has had.
        """
        self._skip = position

    def __iter__(self) -> Iterator[Draw]:
        passed, skip = divmod(self._skip, self.num_samples)
        self._round += passed
        self._skip = 0
        key = (self.seed, self.epoch, self._round)
        self._round += 1
        order = self._order(key)
        places = range(self.rank, self.total_size, self.num_replicas)
        for place in places[skip:]:
            yield Draw(order[place % len(order)], derive_seeds(1, *key, place)[0])

    def _order(self, key: tuple[int, ...]) -> list[int]:
        """Return the epoch's order over all processes; its beginning fills up the last batch."""
        length = len(self.dataset)  # type: ignore[arg-type]
        rng = np.random.default_rng(derive_seeds(4, *key))
        if self._chances is not None:
            return rng.choice(length, size=length, p=self._chances).tolist()  # type: ignore[no-any-return]
        if self.shuffle:
            return rng.permutation(length).tolist()  # type: ignore[no-any-return]
        return list(range(length))


def _chances(weights: Sequence[float], length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = torch.as_tensor(weights, dtype=torch.float64).numpy()
    if values.shape != (length,):
        raise ValueError(f"Got weights of shape {values.shape}, expected ({length},): one a case.")
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ValueError("Got weights that are negative, not finite or all 0, expected chances.")
    return values / values.sum()  # type: ignore[no-any-return]
