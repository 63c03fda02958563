"""Choosing B-scans of a volume, with the ids of their places."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from ppi_med.networks.positions import relative_positions


class SampleSlicesd(Randomizable, MapTransform):
    """Keep some random B-scans of `(C, S, H, W)` volumes, sorted, with their position ids.

    All keys lose the same slices. A volume with fewer slices than asked keeps all; with
    `fewer="repeat"` random ones of them come twice or more, so that batches can be collated.

    Args:
        keys: volumes of equal S.
        num_slices: how many to keep.
        position_key: where the ids (int64, `(num_slices,)`, 1..`num_positions`) are put.
        num_positions: number of ids; see `relative_positions`.
        fewer: "repeat" or "all", for volumes with fewer slices.
        allow_missing_keys: pass over keys that an item lacks.

    Raises:
        ValueError: if the volumes of an item differ in S.

    Examples:
        >>> sample = SampleSlicesd("image", num_slices=2).set_random_state(0)
        >>> item = sample({"image": torch.zeros(1, 100, 4, 4)})
        >>> tuple(item["image"].shape), item["positions"].dtype
        ((1, 2, 4, 4), torch.int64)
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_slices: int = 10,
        position_key: str = "positions",
        num_positions: int = 100,
        fewer: Literal["repeat", "all"] = "repeat",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if num_slices < 1:
            raise ValueError(f"num_slices is {num_slices}, expected 1 or more.")
        if fewer not in ("repeat", "all"):
            raise ValueError(f"fewer is {fewer!r}, expected 'repeat' or 'all'.")
        self.num_slices = num_slices
        self.position_key = position_key
        self.num_positions = num_positions
        self.fewer = fewer
        self._chosen = np.zeros(0, np.int64)

    def randomize(self, data: int) -> None:
        """Choose among `data` slices."""
        if data >= self.num_slices:
            chosen = self.R.choice(data, self.num_slices, replace=False)
        elif self.fewer == "all":
            chosen = np.arange(data)
        else:
            again = self.R.choice(data, self.num_slices - data, replace=True)
            chosen = np.concatenate([np.arange(data), again])
        self._chosen = np.sort(chosen).astype(np.int64)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with fewer slices and their ids."""
        item = dict(data)
        n_slices = _slices(self, item)
        self.randomize(n_slices)
        chosen = torch.from_numpy(self._chosen)
        for key in self.key_iterator(item):
            item[key] = item[key].index_select(1, chosen)
        item[self.position_key] = relative_positions(n_slices, self.num_positions)[chosen]
        return item


class AllSlicesd(MapTransform):
    """Keep all B-scans and add their position ids: the evaluation's part of `SampleSlicesd`.

    Args:
        keys: volumes of equal S, `(C, S, H, W)`.
        position_key: where the ids (int64, `(S,)`) are put.
        num_positions: number of ids; see `relative_positions`.
        allow_missing_keys: pass over keys that an item lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        position_key: str = "positions",
        num_positions: int = 100,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.position_key = position_key
        self.num_positions = num_positions

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the ids added."""
        item = dict(data)
        item[self.position_key] = relative_positions(_slices(self, item), self.num_positions)
        return item


def _slices(transform: MapTransform, item: Mapping[Hashable, Any]) -> int:
    """Return S, the same for all keys of an item."""
    counts = {key: int(item[key].shape[1]) for key in transform.key_iterator(item)}
    if len(set(counts.values())) != 1:
        raise ValueError(f"the volumes have {counts} slices, expected equal numbers.")
    return next(iter(counts.values()))
