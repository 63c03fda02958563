"""Loading OCT volumes into MONAI items."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from numpy.typing import NDArray

from ppi_med.data.oct.intensity import intensity_levels
from ppi_med.data.oct.nifti import read_nifti
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.prepare import prepare_volume, to_uint8
from ppi_med.data.oct.registry import is_nifti, read_oct
from ppi_med.data.oct.volume import OctReadError, Spacing, plausible_spacing
from ppi_med.networks.multiview import relative_positions


class SampleSlicesd(Randomizable, MapTransform):
    """Keep some random B-scans of `(C, S, H, W)` volumes, sorted, with their position ids.

    All keys lose the same slices. A volume with fewer slices keeps all; with `fewer="repeat"`
    random ones of them are repeated, so that batches can be collated.

    Args:
        keys: volumes of equal S.
        num_slices: how many to keep.
        position_key: key for the ids (int64, `(num_slices,)`, 1..`num_positions`).
        num_positions: number of ids; see `relative_positions`.
        fewer: "repeat" or "all", for volumes with fewer slices.
        allow_missing_keys: skip keys that an item lacks.

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
        position_key: key for the ids (int64, `(S,)`).
        num_positions: number of ids; see `relative_positions`.
        allow_missing_keys: skip keys that an item lacks.
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


class LoadOctVolumed(MapTransform):
    """Load OCT volumes as `(1, S, H, W)` tensors.

    NIfTI from the conversion, or a file of any supported format, which is then prepared like a
    converted one. In other NIfTI 16 bits are shifted to 8, and whole numbers up to 255 are kept, in
    any stored type. The meta data hold `filename_or_obj`, `spacing_mm` (between, axial, lateral;
    NaN where unknown), and `background` and `bright` of the whole volume for `NormalizeOctd`.

    Args:
        keys: items with a path.
        dtype: "uint8" keeps the pixels as they are; "float32" has the same values.
        options: for other formats than NIfTI: fields of `ReadOptions`; `spacing` may be text.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        FileNotFoundError: if a file is missing.
        OctReadError: if it cannot be read, or its pixels do not fit into 8 bits.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        dtype: Literal["uint8", "float32"] = "uint8",
        options: ReadOptions | Mapping[str, Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if dtype not in ("uint8", "float32"):
            raise ValueError(f"dtype is {dtype!r}, expected uint8 or float32.")
        self.dtype = torch.uint8 if dtype == "uint8" else torch.float32
        if not isinstance(options, ReadOptions):
            options = ReadOptions(**(options or {}))
        self.options = options

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its volumes loaded."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self._load(Path(item[key]))
        return item

    def _load(self, path: Path) -> MetaTensor:
        if not path.exists():
            raise FileNotFoundError(f"No volume {path}.")
        meta: dict[str, Any] = {"filename_or_obj": str(path)}
        if is_nifti(path):
            pixels, spacing = read_nifti(path)
            spacing, _ = plausible_spacing(spacing)
            pixels = _eight_bits(path, pixels)
        else:
            volume = prepare_volume(read_oct(path, self.options), self.options)
            pixels, spacing = volume.pixels, volume.spacing
            meta["provenance"] = json.dumps(volume.provenance)
            meta["warnings"] = json.dumps(volume.warnings)
        meta["background"], meta["bright"] = intensity_levels(pixels)
        meta["spacing_mm"] = [_or_nan(spacing[i]) for i in (2, 1, 0)]
        array = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.dtype)
        return MetaTensor(array[None], affine=_affine(spacing), meta=meta)


def _eight_bits(path: Path, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return to_uint8(pixels)[0]
    low, high = pixels.min(), pixels.max()
    if low >= 0 and high <= 255 and bool((pixels % 1 == 0).all()):  # a mask of another tool
        return pixels.astype(np.uint8)
    raise OctReadError(
        path,
        f"the pixels are {pixels.dtype} from {low:g} to {high:g}, expected uint8 as the conversion "
        "writes them; convert the original file.",
    )


def _affine(spacing: Spacing) -> torch.Tensor:
    """Return the affine of an `(S, H, W)` array to the NIfTI's (lateral, axial, between) in mm.

    An unknown distance is 1, as in the NIfTI.
    """
    affine = torch.zeros(4, 4, dtype=torch.float64)
    for axis, size in enumerate(reversed(spacing)):
        affine[2 - axis, axis] = size or 1.0
    affine[3, 3] = 1.0
    return affine


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
