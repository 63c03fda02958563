"""MONAI dictionary transforms for OCT volumes: load, fit, choose slices, normalise, augment.

The order in a bundle: `LoadOctVolumed`, `FitSlicesd`, then `SampleSlicesd` (training) or
`AllSlicesd` (evaluation), then `NormalizeOctd`, then `oct_augmentations`. Pixels stay 8-bit until
the slices are chosen, since a volume of 100 x 512 x 1000 would take 205 MB as floats.
"""

from __future__ import annotations

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
