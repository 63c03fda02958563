"""MONAI's cached data set, which says how far it is while a large one is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import CacheDataset

from ppi_med.pace import Pace


class PacedCacheDataset(CacheDataset):
    """`monai.data.CacheDataset` with a line in the log every ten seconds while it is filled.

    What takes no longer says nothing, unlike MONAI's progress bar, so that a log keeps its lines.
    It takes the same arguments, but `progress`.

    Examples:
        >>> cached = PacedCacheDataset([1, 2, 3], lambda number: number + 1)
        >>> cached[0]
        2
    """

    def __init__(
        self, data: Sequence[Any], transform: Callable[[Any], Any] | None = None, **settings: Any
    ) -> None:
        super().__init__(data, transform, progress=False, **settings)

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        self._pace = Pace(self.cache_num if indices is None else len(indices), "cases read")
        filled: list[Any] = super()._fill_cache(indices)
        return filled

    def _load_cache_item(self, idx: int) -> Any:
        item = super()._load_cache_item(idx)
        self._pace.step()
        return item
