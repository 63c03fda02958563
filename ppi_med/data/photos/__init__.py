"""Photographs: the standard layouts read into one form, and MONAI datalists from them.

- `photo`: one photograph with its class, part and boxes; `pixels`: from a reference to pixels.
- `cub`, `cifar`, `folders`, `imagenet`: readers of the layouts.
- `layouts`: which of them a folder has; `convert`: datalists.
- `transforms`: photographs as dictionary transforms.

Its names are imported on first use.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "convert_photos": "convert",
        "read_photos": "layouts",
        "Photo": "photo",
        **dict.fromkeys(("AugmentPhotod", "LoadPhotod", "NormalizePhotod"), "transforms"),
    },
)
