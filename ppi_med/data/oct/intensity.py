"""Pixel values in which 0 means "nothing there", and their change for augmentation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    MapTransform,
    RandAffined,
    RandFlipd,
    RandomizableTransform,
    RandScaleIntensityd,
    SqueezeDimd,
    Transform,
)
from numpy.typing import NDArray


def oct_augmentations(
    image_key: str | Sequence[str] = ("image", "image_exchanged"),
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
    """Return augmentations as in Appendix E.3, MONAI's own where they exist.

    Left-right flip, small rotation and shift, the same for all slices of a volume, then brightness
    (a factor, so that 0 stays 0) and contrast. The slices pass through MONAI's two-dimensional
    transforms as channels, which is cheaper than three-dimensional resampling. What moves in from
    outside is 0.

    Args:
        image_key: volume `(1, S, H, W)`, normalised; several change together, and missing ones are
            left out.
        mask_key: lesion mask of the same shape, moved with the volume; may be missing in items.
        prob: probability of moving, of brightness, of contrast.
        flip_prob: probability of the flip.
        rotate_degrees: largest rotation to either side.
        shift_rows: largest shift in depth, pixels.
        shift_columns: largest lateral shift, pixels.
        brightness: largest change of the factor.
        gamma: range of the exponent of contrast.

    Returns:
        One transform.
    """
    images = [image_key] if isinstance(image_key, str) else list(image_key)
    keys = images if mask_key is None else [*images, mask_key]
    modes = ["bilinear"] * len(images) + ["nearest"] * (len(keys) - len(images))
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
            RandScaleIntensityd(images, factors=brightness, prob=prob, allow_missing_keys=True),
            RandGammad(images, prob=prob, gamma=gamma, allow_missing_keys=True),
        ]
    )


BACKGROUND_PERCENTILE = 25.0
BRIGHT_PERCENTILE = 99.5
_STRIDE = 4


def intensity_levels(pixels: NDArray[Any]) -> tuple[float, float]:
    """Estimate background and bright level of a volume from every fourth row and column.

    Background is the 25th percentile of the pixels above 0 (vitreous and deep choroid fill more
    than half of a B-scan, pixels at 0 were not recorded), bright the 99.5th.

    Args:
        pixels: `(S, H, W)`.

    Returns:
        The two levels in pixel values; (0, 1) for an empty volume.
    """
    sample = pixels[:, ::_STRIDE, ::_STRIDE]
    recorded = sample[sample > 0]
    if recorded.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(recorded, (BACKGROUND_PERCENTILE, BRIGHT_PERCENTILE))
    return float(low), float(max(high, low + 1.0))


class NormalizeOctd(MapTransform):
    """Bring pixels to float32 so that 0 means "nothing there" and 1 is bright tissue.

    x = (pixel - background) / (bright - background). The levels are the whole volume's, as recorded
    by `LoadOctVolumed`, or fixed numbers, which keep volumes comparable. Pixels that were not
    recorded (exactly 0) and padding become 0 too. The background's noise is on both sides of 0, so
    a region replaced by 0 looks like background on average.

    Args:
        keys: volumes of any shape.
        background: pixel value that becomes 0, or `None` for the volume's own.
        bright: pixel value that becomes 1, or `None` for the volume's own.
        clip: largest absolute value kept, or `None`.
        allow_missing_keys: skip keys that an item lacks.

    Examples:
        >>> normalize = NormalizeOctd("image", background=20, bright=220)
        >>> normalize({"image": torch.tensor([[[[0, 20, 220]]]])})["image"].flatten().tolist()
        [0.0, 0.0, 1.0]
    """

    def __init__(
        self,
        keys: KeysCollection,
        background: float | None = None,
        bright: float | None = None,
        clip: float | None = 2.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if background is not None and bright is not None and not bright > background:
            raise ValueError(f"bright is {bright}, expected more than background {background}.")
        self.background = background
        self.bright = bright
        self.clip = clip

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its volumes normalised."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self._normalise(item[key])
        return item

    def _normalise(self, volume: torch.Tensor) -> torch.Tensor:
        low, high = self._levels(volume)
        recorded = volume > 0
        scaled = (volume.to(torch.float32) - low) / (high - low)
        if self.clip is not None:
            scaled = scaled.clamp(-self.clip, self.clip)
        return torch.where(recorded, scaled, torch.zeros_like(scaled))

    def _levels(self, volume: torch.Tensor) -> tuple[float, float]:
        meta = volume.meta if isinstance(volume, MetaTensor) else {}
        if self.background is not None and self.bright is not None:
            return self.background, self.bright
        if "background" in meta and "bright" in meta:
            low, high = float(meta["background"]), float(meta["bright"])
        else:
            flat = volume.reshape(-1, *volume.shape[-2:]).cpu().numpy()
            low, high = intensity_levels(flat)
        low = self.background if self.background is not None else low
        high = self.bright if self.bright is not None else high
        return low, max(high, low + 1e-6)


class RandGammad(RandomizableTransform, MapTransform):
    """Change the contrast by x -> sign(x) |x|^gamma, which keeps 0 and 1 where they are.

    MONAI's `RandAdjustContrastd` shifts by the minimum first and so moves 0, which here means
    "nothing there".

    Args:
        keys: volumes as `NormalizeOctd` makes them; all get the same gamma.
        prob: probability of a change.
        gamma: smallest and largest exponent, drawn evenly on the log scale.
        allow_missing_keys: skip keys that an item lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.8, 1.25),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 < gamma[0] <= gamma[1]:
            raise ValueError(f"gamma is {gamma}, expected two positive numbers, the first smaller.")
        self.gamma = (float(gamma[0]), float(gamma[1]))
        self._exponent = 1.0

    def randomize(self, data: Any = None) -> None:
        """Draw whether and how much."""
        super().randomize(None)
        self._exponent = float(np.exp(self.R.uniform(*np.log(self.gamma))))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its contrast changed."""
        item = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(item):
                item[key] = item[key].sign() * item[key].abs() ** self._exponent
        return item
