"""A dataset whose randomness depends on the draw, not on which process loads it or when."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Protocol

from torch.utils.data import Dataset

from ppi_med.training.rng import derive_seeds, seeded
from ppi_med.training.sampler import Draw

# Things with attributes in which no transform of this dataset can be.
_NO_PLACE = (type, ModuleType, FunctionType)


class _Randomizable(Protocol):
    """What MONAI's random transforms and datasets have in common."""

    def set_random_state(self, seed: int) -> Any: ...


class SeededDataset(Dataset[Any]):
    """Loads a :class:`~ppi_med.training.sampler.Draw` of another dataset under the draw's seed.

    For each case every MONAI `Randomizable` found in the dataset is seeded, and so are the global
    generators of Python, numpy and torch (CPU), which are put back afterwards: a case looks the
    same from any worker process and in a resumed run, and training does not feel the loading.

    Args:
        dataset: with ``__getitem__`` and a length, such as a `monai.data.CacheDataset`; what it
            caches must not be random.

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
    """Find what can be seeded inside a dataset: its transforms, and those of datasets within.

    A `Compose` seeds its own parts, so the search stops at whatever can be seeded.
    """
    if id(value) in seen or isinstance(value, _NO_PLACE):
        return
    seen.add(id(value))
    if isinstance(value, (list, tuple)):
        # Lists of cases are long and hold dicts and paths; only objects can hide a transform.
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
