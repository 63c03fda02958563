"""Patches as data sets of torch: the form of an item, crops, and the two sources.

`LidcPatches` reads what `extract_patches` wrote, `LidcNodules` arrays with a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ppi_med.data.datalist import load_parts
from ppi_med.data.lidc.nodules_npz import KEPT, SLOTS, NodulesNpz, nodule_splits, read_nodules_npz
from ppi_med.data.lidc.zarr_store import load_patch
from ppi_med.data.splits import PARTS, Splits

CropMode = Literal["centred", "shifted"]


def crop_start(
    union: NDArray[np.uint8], size: int, mode: CropMode, *, seed: int = 0, name: str = ""
) -> tuple[int, int]:
    """Return the first row and column of a crop.

    A patch is centred on its lesion, which gives the place away: a model can learn to answer "in
    the middle". "shifted" puts the lesion anywhere in the crop, complete if it fits, at a place
    that depends only on `seed` and `name`, so that an evaluation can be repeated.

    Args:
        union: `(rows, columns)`, the lesion.
        size: size of the crop.
        mode: "centred" or "shifted".
        seed: seed of the shifts.
        name: name of the patch.

    Returns:
        Row and column.

    Raises:
        ValueError: for a crop larger than the patch, or an unknown mode.

    Examples:
        >>> crop_start(np.ones((71, 71), np.uint8), 41, "centred")
        (15, 15)
    """
    if mode not in ("centred", "shifted"):
        raise ValueError(f"crop mode is {mode!r}, expected centred or shifted.")
    if not 1 <= size <= min(union.shape):
        raise ValueError(f"crop is {size}, expected 1 to {min(union.shape)}, the patch's size.")
    middle = [n // 2 - size // 2 for n in union.shape]
    if mode == "centred":
        return middle[0], middle[1]
    digest = hashlib.sha256(f"crop-{seed}-{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    starts = []
    for axis in (0, 1):
        found = np.flatnonzero(union.any(axis=1 - axis))
        low, high = (found[0], found[-1]) if len(found) else (middle[axis], middle[axis])
        first = max(0, int(high) - size + 1)
        last = min(int(low), union.shape[axis] - size)
        starts.append(int(rng.integers(first, last + 1)) if first <= last else middle[axis])
    return starts[0], starts[1]


def make_item(
    arrays: dict[str, NDArray[Any]],
    facts: dict[str, Any],
    crop: tuple[int, CropMode, int] | None = None,
) -> dict[str, Any]:
    """Return an item in the form of MONAI's transforms.

    Args:
        arrays: `hu`, `readers`, `state`, `union`, `majority` of one patch.
        facts: label, subject, site and so on; they go into the item as they are.
        crop: size, mode and seed; `None` for the whole patch.

    Returns:
        `image` float32 `(1, H, W)` in HU; `readers` uint8 `(4, H, W)`; `union` and `majority`
        uint8 `(1, H, W)`; `state` int64 `(4,)`: 0 no such reader, 1 without an outline on this
        slice, 2 with one; and the facts.
    """
    import torch

    if crop is not None:
        size, mode, seed = crop
        name = str(facts.get("volume_id", ""))
        row, column = crop_start(arrays["union"], size, mode, seed=seed, name=name)
        arrays = {
            key: value[..., row : row + size, column : column + size] if key != "state" else value
            for key, value in arrays.items()
        }
        facts = facts | {"crop_row": row, "crop_column": column}

    def tensor(values: NDArray[Any], kind: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(kind)

    return {
        "image": tensor(arrays["hu"][None], torch.float32),
        "readers": tensor(arrays["readers"], torch.uint8),
        "union": tensor(arrays["union"][None], torch.uint8),
        "majority": tensor(arrays["majority"][None], torch.uint8),
        "state": tensor(arrays["state"], torch.int64),
        **facts,
    }


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
        seed: seed of the shifts.
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

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = dict(self.items[index])
        store = item.pop("store", None) or item.pop("image")
        arrays, _ = load_patch(str(store), item.pop("group"), int(item.pop("row")), keep=True)
        result = make_item(arrays, item, self.crop)
        return result if self.transform is None else self.transform(result)


class LidcNodules(Dataset[dict[str, Any]]):
    """Nodules of a folder as items: image in HU, label, masks, site, patient.

    Args:
        folder: see the module; or the arrays themselves, so that several parts share them.
        part: "training", "validation", "test", several of them, or "all".
        splits: part of each patient, or the path of its file; needed for all parts except "all".
        fold: validation is this fold, training the others.
        min_readers: the label is 1 if at least so many readers drew the nodule.
        majority: share of the slice's readers that makes the majority mask.
        over_four: "drop" leaves out nodules of clusters with more than four annotations, whose
            number of readers is a choice and not a fact; "keep" keeps them.
        sites: keep only these manufacturers.
        crop: rows and columns of the crop; `None` for the whole patch.
        crop_mode: "centred", or "shifted": the lesion anywhere in the crop.
        seed: seed of the shifts.
        transform: applied to each item.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: for files that do not fit each other, or a part without nodules.
    """

    def __init__(
        self,
        folder: str | Path | NodulesNpz,
        part: str | Sequence[str] = "all",
        *,
        splits: Splits | str | Path | None = None,
        fold: int | None = None,
        min_readers: int = 3,
        majority: float = 0.5,
        over_four: Literal["drop", "keep"] = "drop",
        sites: Sequence[str] | None = None,
        crop: int | None = None,
        crop_mode: CropMode = "centred",
        seed: int = 0,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        if not 1 <= min_readers <= SLOTS:
            raise ValueError(f"min_readers is {min_readers}, expected 1 to {SLOTS}.")
        if over_four not in ("drop", "keep"):
            raise ValueError(f"over_four is {over_four!r}, expected drop or keep.")
        self.nodules = folder if isinstance(folder, NodulesNpz) else read_nodules_npz(folder)
        self.min_readers, self.majority = min_readers, majority
        self.crop = None if crop is None else (crop, crop_mode, seed)
        self.transform = transform
        wanted = [part] if isinstance(part, str) else list(part)
        if isinstance(splits, str | Path):
            splits = nodule_splits(self.nodules, min_readers=min_readers, path=splits)
        if splits is None and wanted != ["all"]:
            raise ValueError(f"part {'+'.join(wanted)} needs splits, expected a file or Splits.")
        for name in wanted:
            if name not in (*PARTS, "all"):
                raise ValueError(f"part is {name!r}, expected one of {[*PARTS, 'all']}.")
        place: dict[str, str | None] = {}
        if splits is not None and "all" not in wanted:
            patients = {row["patient_id"] for row in self.nodules.rows}
            place = {patient: splits.part_of(patient, fold) for patient in patients}
        self.indices = [
            index
            for index, row in enumerate(self.nodules.rows)
            if (not place or place[row["patient_id"]] in wanted)
            and (sites is None or row["manufacturer"] in sites)
            and (over_four == "keep" or row.get("cluster_over_four", "0") == "0")
        ]
        if not self.indices:
            raise ValueError(f"no nodule is left in {'+'.join(wanted)}, fold {fold}, {sites}.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        item = make_item(*self._parts(self.indices[index]), self.crop)
        return item if self.transform is None else self.transform(item)

    @property
    def label_rule(self) -> str:
        """The label's rule in words."""
        return f"1 if at least {self.min_readers} of {SLOTS} readers drew the nodule"

    @property
    def labels(self) -> list[int]:
        """The labels of the items, without loading them."""
        return [self.nodules.label(index, self.min_readers) for index in self.indices]

    def facts(self, row: int) -> dict[str, Any]:
        """Return the table's facts about a nodule."""
        found = self.nodules.rows[row]
        facts: dict[str, Any] = {
            "label": self.nodules.label(row, self.min_readers),
            "volume_id": found["id"],
            "nodule_id": found["id"],
            "subject": found["patient_id"],
            "site": found["manufacturer"],
            "spacing_mm": float(found["pixel_spacing_mm"]),
            "votes": int(found["n_readers"]),
        }
        return facts | {name: found[name] for name in KEPT if name in found}

    def _parts(self, index: int) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return self.nodules.arrays(index, self.majority), self.facts(index)
