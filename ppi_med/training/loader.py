"""The loader of exact runs: same batches for the same seed and epoch, from any batch on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from ppi_med.training.sampler import EpochSampler
from ppi_med.training.seeded_dataset import SeededDataset


class ExactDataLoader(DataLoader[Any]):
    """A `DataLoader` for training whose batches depend on (seed, epoch) only.

    Neither the number of workers nor what else draws random numbers matters, nothing is drawn from
    the global generators, and :meth:`start_at` begins in the middle of an epoch without loading
    what came before. MONAI's trainers tell it the epoch; iterated again within one, it goes on
    with another order.

    Args:
        dataset: map-style, such as `monai.data.CacheDataset`; its random transforms are seeded
            for each case.
        batch_size: cases a batch.
        seed: of order and augmentation, 0 or more.
        shuffle: see :class:`~ppi_med.training.sampler.EpochSampler`.
        weights: see :class:`~ppi_med.training.sampler.EpochSampler`.
        drop_last: leave out the last batch where it is smaller.
        num_workers: worker processes.
        collate_fn: default MONAI's `list_data_collate`.
        options: further arguments of `torch.utils.data.DataLoader`.

    Raises:
        TypeError: where an option is given that would replace the order of cases.

    Examples:
        >>> loader = ExactDataLoader(list("abcd"), batch_size=2, seed=3, collate_fn="".join)
        >>> loader.set_epoch(1)
        >>> whole = list(loader)
        >>> loader.set_epoch(1)
        >>> loader.start_at(1)
        >>> list(loader) == whole[1:]
        True
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        weights: Sequence[float] | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        **options: Any,
    ) -> None:
        taken = sorted({"sampler", "batch_sampler", "generator"} & set(options))
        if taken:
            raise TypeError(
                f"Got {taken}, which ExactDataLoader sets itself: use shuffle, weights and seed."
            )
        self.epoch_sampler = EpochSampler(dataset, seed=seed, shuffle=shuffle, weights=weights)
        super().__init__(
            SeededDataset(dataset),
            batch_size=batch_size,
            sampler=self.epoch_sampler,
            drop_last=drop_last,
            num_workers=num_workers,
            collate_fn=_default_collate() if collate_fn is None else collate_fn,
            # Only seeds the workers, whose draws are seeded anew for each case.
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch_sampler.set_epoch(epoch)

    def start_at(self, batches: int) -> None:
        """Leave out this many batches of the epoch; holds for the next iteration only.

        `len` stays that of a whole epoch.
        """
        whole = len(self)
        passes, rest = divmod(batches, whole) if whole else (0, 0)
        # A whole pass may end with a smaller batch, or drop one: count it in cases.
        position = passes * self.epoch_sampler.num_samples + rest * int(self.batch_size or 1)
        self.epoch_sampler.start_at(position)


def _default_collate() -> Callable[[list[Any]], Any]:
    from monai.data import list_data_collate

    collate: Callable[[list[Any]], Any] = list_data_collate
    return collate
