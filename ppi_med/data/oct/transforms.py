"""MONAI dictionary transforms for OCT volumes: load, fit, choose slices, normalise, augment.

The order in a bundle: `LoadOctVolumed`, `FitSlicesd`, then `SampleSlicesd` (training) or
`AllSlicesd` (evaluation), then `NormalizeOctd`, then `oct_augmentations`. Pixels stay 8-bit until
the slices are chosen, since a volume of 100 x 512 x 1000 would take 205 MB as floats.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ppi_med.data.oct.fit import FitSlicesd
from ppi_med.data.oct.intensity import (
    NormalizeOctd,
    RandGammad,
    intensity_levels,
    oct_augmentations,
)
from ppi_med.data.oct.loading import AllSlicesd, LoadOctVolumed, SampleSlicesd

__all__ = [
    "AllSlicesd",
    "FitSlicesd",
    "LoadOctVolumed",
    "NormalizeOctd",
    "RandGammad",
    "SampleSlicesd",
    "intensity_levels",
    "oct_augmentations",
]


class EmptyMaskd(MapTransform):
    """Add a mask of zeros, uint8, shaped like another key, to items that lack it.

    Args:
        keys: masks that may be missing.
        like: whose shape they get.

    Examples:
        >>> item = EmptyMaskd("lesion", like="image")({"image": torch.ones(1, 2, 2)})
        >>> item["lesion"].dtype, int(item["lesion"].sum())
        (torch.uint8, 0)
    """

    def __init__(self, keys: KeysCollection, like: str = "image") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.like = like

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with all of its masks."""
        item = dict(data)
        for key in self.keys:
            if key not in item:
                item[key] = torch.zeros(tuple(item[self.like].shape), dtype=torch.uint8)
        return item
