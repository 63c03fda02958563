"""Augmentations in the manner of Appendix E.3."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    RandAffined,
    RandFlipd,
    RandScaleIntensityd,
    SqueezeDimd,
    Transform,
)

from ppi_med.data.oct.intensity import RandGammad


def oct_augmentations(
    image_key: str = "image",
    mask_key: str | None = "lesion",
    *,
    prob: float = 0.5,
    flip_prob: float = 0.5,
    rotate_degrees: float = 5.0,
    shift_rows: float = 20.0,
    shift_columns: float = 40.0,
    brightness: float = 0.15,
    gamma: tuple[float, float] = (0.8, 1.25),
) -> Transform:
    """Return the augmentations in the manner of Appendix E.3, MONAI's own wherever it has them.

    Left-right flip, small rotation and shift, the same for all slices of a volume, then brightness
    (a factor, so that 0 stays 0) and contrast. The slices pass through MONAI's two-dimensional
    transforms as channels, which is cheaper than three-dimensional resampling. What moves in from
    outside is 0.

    Args:
        image_key: volume `(1, S, H, W)`, normalised.
        mask_key: lesion mask of the same shape, moved along; may be missing in items.
        prob: of moving, of brightness, of contrast.
        flip_prob: of the flip.
        rotate_degrees: largest rotation to either side.
        shift_rows: largest shift in depth, pixels.
        shift_columns: largest lateral shift, pixels.
        brightness: largest change of the factor.
        gamma: range of the exponent of contrast.

    Returns:
        One transform.
    """
    keys = [image_key] if mask_key is None else [image_key, mask_key]
    modes = ["bilinear", "nearest"][: len(keys)]
    angle = float(np.deg2rad(rotate_degrees))
    options: dict[str, Any] = {"allow_missing_keys": True}
    return Compose(
        [
            SqueezeDimd(keys, dim=0, **options),
            RandFlipd(keys, prob=flip_prob, spatial_axis=1, **options),
            RandAffined(
                keys,
                prob=prob,
                rotate_range=(angle,),
                translate_range=(shift_rows, shift_columns),
                mode=modes,
                padding_mode="zeros",
                **options,
            ),
            EnsureChannelFirstd(keys, channel_dim="no_channel", **options),
            RandScaleIntensityd(image_key, factors=brightness, prob=prob),
            RandGammad(image_key, prob=prob, gamma=gamma),
        ]
    )
