"""The loader of exact runs: the same batches for the same seed and epoch, from any batch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from ppi_med.distributed import rank as this_rank
from ppi_med.distributed import world_size
from ppi_med.training.rng import derive_seeds, seeded


class Draw(NamedTuple):
    """One case to load.

    Attributes:
        case: index into the dataset.
        seed: seed of everything random that happens to this case in this epoch.
    """

    case: int
    seed: int


class EpochSampler(DistributedSampler[Any]):
    """Yields `Draw`, in an order fixed by (seed, epoch), for this process's share.

    It is a `DistributedSampler` so that MONAI's trainers set its epoch. The draw at each position
    of the epoch's order is the same for any batch size, number of workers and number of processes.

    Args:
        dataset: only its length is used.
        seed: seed of the order and of the draws, 0 or more.
        shuffle: each case once in random order; False: in the order of the dataset.
        weights: one per case, to draw with replacement in proportion (a rare class more often);
            `shuffle` then does not matter.
        drop_last: with several processes, leave out the remainder instead of repeating cases.
        num_replicas: number of processes; default from torch.distributed, 1 if it is not in use.
        rank: rank of this process; default likewise.

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
        """Set the next epoch. A position set by `start_at` is kept."""
        self.epoch = epoch
        self._round = 0

    def start_at(self, position: int) -> None:
        """Skip what this process has had of the epoch; this holds for the next iteration only.

        Args:
            position: number of cases that this process has had.
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
        raise ValueError(
            f"Got weights of shape {values.shape}, expected ({length},): one per case."
        )
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ValueError("Got weights that are negative, not finite or all 0, expected chances.")
    return values / values.sum()  # type: ignore[no-any-return]


# Objects with attributes that cannot contain a transform of this data set.
_NO_PLACE = (type, ModuleType, FunctionType)


class _Randomizable(Protocol):
    """What MONAI's random transforms and datasets have in common."""

    def set_random_state(self, seed: int) -> Any: ...


class SeededDataset(Dataset[Any]):
    """Loads a `Draw` of another dataset under the draw's seed.

    For each case every MONAI `Randomizable` found in the dataset is seeded, and so are the global
    generators of Python, numpy and torch (CPU), which are restored afterwards: a case looks the
    same from any worker process and in a resumed run, and loading does not affect training.

    Args:
        dataset: with `__getitem__` and a length, such as a `monai.data.CacheDataset`; its cached
            part must not be random.

    Examples:
        >>> import random
        >>> class Noisy:
        ...     def __len__(self):
        ...         return 2
        ...     def __getitem__(self, index):
        ...         return random.random()
        >>> noisy = SeededDataset(Noisy())
        >>> noisy[Draw(0, seed=5)] == noisy[Draw(0, seed=5)]
        True
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._found: list[_Randomizable] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> Any:
        if not isinstance(draw, Draw):
            raise TypeError(
                f"Got the index {draw!r}, expected a Draw: a SeededDataset is read through an "
                "EpochSampler (use ExactDataLoader); index its .dataset for a single case."
            )
        if self._found is None:
            self._found = list(_randomizables(self.dataset, set()))
        python, numpy, torch_, *rest = derive_seeds(3 + len(self._found), draw.seed)
        for randomizable, seed in zip(self._found, rest, strict=True):
            randomizable.set_random_state(seed=seed)
        with seeded(python, numpy, torch_):
            return self.dataset[draw.case]


def _randomizables(value: Any, seen: set[int]) -> Iterator[_Randomizable]:
    """Find what can be seeded inside a data set: its transforms, and those of data sets inside it.

    A `Compose` seeds its own parts, so the search stops at whatever can be seeded.
    """
    if id(value) in seen or isinstance(value, _NO_PLACE):
        return
    seen.add(id(value))
    if isinstance(value, (list, tuple)):
        # Lists of cases are long and hold dicts and paths; only objects can contain a transform.
        for item in value:
            if hasattr(item, "__dict__") or isinstance(item, (list, tuple)):
                yield from _randomizables(item, seen)
    elif hasattr(value, "set_random_state"):
        yield value
        # A dataset may be random itself and hold a random transform too.
        if isinstance(value, Dataset):
            yield from _inside(value, seen)
    elif hasattr(value, "__dict__"):
        yield from _inside(value, seen)


def _inside(value: Any, seen: set[int]) -> Iterator[_Randomizable]:
    for name in sorted(vars(value)):
        if not name.startswith("__"):
            yield from _randomizables(vars(value)[name], seen)


class ExactDataLoader(DataLoader[Any]):
    """A `DataLoader` for training whose batches depend on (seed, epoch) only.

    The number of workers and other random draws do not matter, nothing is drawn from the global
    generators, and `start_at` begins in the middle of an epoch without loading the earlier part.
    MONAI's trainers set the epoch; a second iteration within one epoch has another order.

    Args:
        dataset: map-style, such as `monai.data.CacheDataset`; its random transforms are seeded
            for each case.
        batch_size: cases per batch.
        seed: seed of order and augmentation, 0 or more.
        shuffle: see `EpochSampler`.
        weights: see `EpochSampler`.
        drop_last: leave out the last batch if it is smaller.
        num_workers: worker processes.
        collate_fn: default MONAI's `list_data_collate`.
        options: further arguments of `torch.utils.data.DataLoader`.

    Raises:
        TypeError: if an option is given that would replace the order of cases.

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
            # Only seeds the workers, whose draws are seeded again for each case.
            generator=torch.Generator().manual_seed(seed),
            **options,
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch."""
        self.epoch_sampler.set_epoch(epoch)

    def start_at(self, batches: int) -> None:
        """Skip this many batches of the epoch; this holds for the next iteration only.

        `len` stays that of a whole epoch.
        """
        whole = len(self)
        passes, rest = divmod(batches, whole) if whole else (0, 0)
        # A complete pass may end with a smaller batch, or drop one: count in cases.
        position = passes * self.epoch_sampler.num_samples + rest * int(self.batch_size or 1)
        self.epoch_sampler.start_at(position)


def _default_collate() -> Callable[[list[Any]], Any]:
    from monai.data import list_data_collate

    collate: Callable[[list[Any]], Any] = list_data_collate
    return collate
