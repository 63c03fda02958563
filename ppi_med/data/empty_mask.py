"""A mask for cases that have none, so that batches can be collated."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


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
