"""The patches of an extraction as a data set for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ppi_med.data.datalist import load_parts
from ppi_med.data.lidc.items import CropMode, make_item
from ppi_med.data.lidc.zarr_store import open_store


class LidcPatches(Dataset[dict[str, Any]]):
    """Patches read from Zarr one by one, as `extract_patches` wrote them.

    Args:
        datalist: `datalist.json` of the extraction.
        part: "training", "validation", "test" or "unassigned", or several.
        fold: validation is this fold, training the others.
        sites: keep only these manufacturers.
        exclude_sites: leave these out.
        crop: rows and columns of the crop; `None` for the whole patch.
        crop_mode: "centred", or "shifted": the lesion anywhere in the crop.
        seed: of the shifts.
        transform: applied to each item.

    Raises:
        FileNotFoundError: if the datalist is missing.
        ValueError: for an unknown part, site or fold, or a part without items.
    """

    def __init__(
        self,
        datalist: str | Path,
        part: str | Sequence[str],
        *,
        fold: int | None = None,
        sites: Sequence[str] | None = None,
        exclude_sites: Sequence[str] | None = None,
        crop: int | None = None,
        crop_mode: CropMode = "centred",
        seed: int = 0,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.items = load_parts(datalist, part, sites=sites, exclude_sites=exclude_sites, fold=fold)
        self.crop = None if crop is None else (crop, crop_mode, seed)
        self.transform = transform
        self._groups: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_groups": {}}  # each worker opens the groups itself

    def __getitem__(self, index: int) -> Any:
        item = dict(self.items[index])
        store = item.pop("store", None) or item.pop("image")
        sources = self._arrays(store, item.pop("group"))
        row = item.pop("row")
        arrays = {name: np.asarray(source[row]) for name, source in sources.items()}
        result = make_item(arrays, item, self.crop)
        return result if self.transform is None else self.transform(result)

    def _arrays(self, store: str, group: str) -> dict[str, Any]:
        import zarr

        key = f"{store}\0{group}"
        if key not in self._groups:
            source = zarr.open_group(open_store(store), path=group, mode="r")
            self._groups[key] = dict(source.arrays())
        return self._groups[key]
