"""MONAI dictionary transforms for CT patches: load, normalise, sample.

The order in a bundle: `LoadPatchd`, `NormalizeCtd` (both can be cached), `SamplePatchd`, which
draws the network's image from the whole patch in one step: crop, size, flip, rotation, shift and
zoom, so that the rotated image shows real CT and not padding.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, Transform
from numpy.typing import NDArray
from torch import Tensor

from ppi_med.data.dicom.values import PADDING
from ppi_med.data.lidc.cases import is_npz, nodules_of
from ppi_med.data.lidc.datasets import CropMode, crop_start
from ppi_med.data.lidc.zarr_store import load_patch

MASKS = {"lesion": "union", "majority": "majority", "readers": "readers", "state": "state"}
"""Names of masks in an item, and in the arrays."""


class LoadPatchd(Transform):
    """Load the arrays of a case of `load_cases`.

    Args:
        masks: names of `MASKS` to load with the image: "lesion" (marked by any reader),
            "majority", "readers" (4 slots) and "state" of the slots.

    Returns of a call:
        The item with `image`, float32 `(1, H, W)` in HU, `spacing_mm`, float32 (between rows,
        between columns), and the masks, uint8 `(1, H, W)`.

    Raises:
        ValueError: for an unknown mask.
    """

    def __init__(self, masks: Sequence[str] = ()) -> None:
        unknown = sorted(set(masks) - set(MASKS))
        if unknown:
            raise ValueError(f"masks has {unknown[0]!r}, expected some of {sorted(MASKS)}.")
        self.masks = tuple(masks)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its arrays."""
        item = dict(data)
        place = item.pop("store", None) or item.pop("image")
        row = int(item.pop("row"))
        if is_npz(place):
            arrays = nodules_of(Path(place)).arrays(row)
            spacing = (item["spacing_mm"],) * 2
        else:
            names = {"hu"} | {MASKS[name] for name in self.masks}
            arrays, facts = load_patch(str(place), str(item.pop("group")), row, names, keep=True)
            spacing = facts["spacing_row_mm"], facts["spacing_column_mm"]
        item["spacing_mm"] = torch.tensor(spacing, dtype=torch.float32)
        item["image"] = torch.from_numpy(arrays["hu"][None].astype(np.float32))
        for name in self.masks:
            values = np.ascontiguousarray(arrays[MASKS[name]])
            item[name] = torch.from_numpy(values[None] if values.ndim == 2 else values)
        return item


class NormalizeCtd(MapTransform):
    """Map HU to numbers in which 0 is lung: what PPI removes then becomes tissue without a lesion.

    (clip(HU, low, high) - zero) / scale; also 0 where nothing was scanned.

    Args:
        keys: images in HU.
        low: lower end of the window.
        high: upper end.
        zero: HU that become 0.
        scale: HU that become 1 above it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        low: float = -1000.0,
        high: float = 400.0,
        zero: float = -850.0,
        scale: float = 400.0,
    ) -> None:
        super().__init__(keys)
        if not low < high or not low <= zero <= high or scale <= 0:
            raise ValueError(
                f"Got low={low}, high={high}, zero={zero} and scale={scale}, expected low <= zero "
                "<= high and a positive scale."
            )
        self.low, self.high, self.zero, self.scale = low, high, zero, scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its images normalised."""
        item = dict(data)
        for key in self.key_iterator(item):
            hu = item[key]
            values = (hu.clamp(self.low, self.high) - self.zero) / self.scale
            item[key] = torch.where(hu <= PADDING, torch.zeros_like(values), values)
        return item


class SamplePatchd(MapTransform, RandomizableTransform):
    """Draw a square image of a size in mm out of patches, moved at random where asked for.

    What lies outside the patch is 0. Masks are taken by the nearest pixel.

    Args:
        keys: image, and masks if any, of one patch.
        size: rows and columns of the result.
        field_mm: side of the square in mm; None: that of the whole patch.
        flip_prob: probability of a flip of the columns (with a rotation by 180 degrees, of the
            rows).
        rotate_degrees: largest rotation to either side; 180: any direction.
        shift_mm: largest shift along either axis.
        zoom: largest factor of magnification, and its inverse; 1: none.
        crop_mode: "centred", or "shifted": the lesion anywhere in the square, at a place that
            depends on `seed` and the patch's name only; needs the key "lesion".
        seed: seed of the shifted places.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        field_mm: float | None = None,
        flip_prob: float = 0.0,
        rotate_degrees: float = 0.0,
        shift_mm: float = 0.0,
        zoom: float = 1.0,
        crop_mode: CropMode = "centred",
        seed: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self)
        if not isinstance(size, int) or size < 1 or (field_mm is not None and field_mm <= 0):
            raise ValueError(f"Got size={size} and field_mm={field_mm}, expected both above 0.")
        if not 0 <= flip_prob <= 1 or min(rotate_degrees, shift_mm) < 0 or zoom < 1:
            raise ValueError(
                f"Got flip_prob={flip_prob}, rotate_degrees={rotate_degrees}, shift_mm={shift_mm} "
                f"and zoom={zoom}, expected 0 to 1, 0 or more, 0 or more, 1 or more."
            )
        if crop_mode not in ("centred", "shifted"):
            raise ValueError(f"crop_mode is {crop_mode!r}, expected centred or shifted.")
        self.size, self.field_mm = size, field_mm
        self.flip_prob, self.rotate_degrees = flip_prob, rotate_degrees
        self.shift_mm, self.zoom = shift_mm, zoom
        self.crop_mode, self.seed = crop_mode, seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its images drawn."""
        item = dict(data)
        shape = item[self.keys[0]].shape[-2:]
        spacing = item["spacing_mm"].tolist()
        turn = self._turn()
        extent = [n * mm for n, mm in zip(shape, spacing, strict=True)]
        field = self.field_mm or max(extent)
        # Rows of the result to rows and columns of the patch, each from -1 to 1.
        scaled = turn * (field / np.array(extent))[:, None]
        center = self._center(item, shape, spacing, extent, field)
        theta = torch.tensor(
            [
                [scaled[1, 1], scaled[1, 0], center[1]],
                [scaled[0, 1], scaled[0, 0], center[0]],
            ],
            dtype=torch.float32,
        )
        grid = F.affine_grid(theta[None], [1, 1, self.size, self.size], align_corners=False)
        for key in self.key_iterator(item):
            item[key] = _drawn(item[key], grid)
        return item

    def _turn(self) -> NDArray[np.float64]:
        """Return rotation, flip and zoom as a matrix of (row, column)."""
        if not (self.flip_prob or self.rotate_degrees or self.zoom > 1):
            return np.eye(2)
        angle = np.deg2rad(self.R.uniform(-self.rotate_degrees, self.rotate_degrees))
        flip = -1.0 if self.R.random() < self.flip_prob else 1.0
        zoom = self.zoom ** self.R.uniform(-1.0, 1.0)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.asarray(turn * [1.0, flip] / zoom)

    def _center(
        self,
        item: Mapping[Hashable, Any],
        shape: Sequence[int],
        spacing: Sequence[float],
        extent: Sequence[float],
        field: float,
    ) -> list[float]:
        """Return the square's middle in the patch, from -1 to 1."""
        middle = [float(n // 2) for n in shape]
        if self.crop_mode == "shifted":
            union = item["lesion"][0].numpy()
            side = min(*shape, round(field / max(spacing)))
            name = str(item.get("volume_id", ""))
            start = crop_start(union, side, "shifted", seed=self.seed, name=name)
            middle = [first + (side - 1) / 2 for first in start]
        place = [(2 * k + 1) / n - 1 for k, n in zip(middle, shape, strict=True)]
        if not self.shift_mm:
            return place
        drawn = self.R.uniform(-self.shift_mm, self.shift_mm, 2)
        return [p + 2 * mm / size for p, mm, size in zip(place, drawn, extent, strict=True)]


def _drawn(values: Tensor, grid: Tensor) -> Tensor:
    if values.is_floating_point():
        return F.grid_sample(values[None], grid, align_corners=False)[0]
    nearest = F.grid_sample(values[None].float(), grid, mode="nearest", align_corners=False)
    return nearest[0].to(values.dtype)
