"""MONAI dictionary transforms for OCT volumes: load, choose slices, normalise, augment.

The order in a bundle: `LoadOctVolumed`, then `SampleSlicesd` (training) or `AllSlicesd`
(evaluation), then `NormalizeOctd`, then `oct_augmentations`. Pixels stay 8-bit until the slices
are chosen, since a volume of 100 x 512 x 1000 would take 205 MB as floats.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

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
    Randomizable,
    RandomizableTransform,
    RandScaleIntensityd,
    SqueezeDimd,
    Transform,
)
from numpy.typing import NDArray

from ppi_med.data.oct.nifti import read_nifti
from ppi_med.data.oct.options import ReadOptions, parse_spacing
from ppi_med.data.oct.prepare import prepare_volume
from ppi_med.data.oct.registry import read_oct
from ppi_med.data.oct.volume import Spacing

BACKGROUND_PERCENTILE = 25.0
BRIGHT_PERCENTILE = 99.5
_STRIDE = 4


def position_ids(n_slices: int, num_positions: int = 100) -> torch.Tensor:
    """Return the position id of each of `n_slices` B-scans: its relative place among 1..P.

    id_i = 1 + round(i (P - 1) / (n - 1)); the only slice of a volume gets the middle.

    Args:
        n_slices: B-scans of the whole volume.
        num_positions: P, the number of ids.

    Returns:
        int64, `(n_slices,)`.

    Examples:
        >>> position_ids(5, 100).tolist(), position_ids(1, 100).tolist()
        ([1, 26, 50, 75, 100], [50])
    """
    if n_slices < 1 or num_positions < 1:
        raise ValueError(
            f"got {n_slices} slices and {num_positions} positions, expected 1 or more."
        )
    if n_slices == 1:
        return torch.tensor([(num_positions + 1) // 2])
    places = torch.arange(n_slices, dtype=torch.float64) * (num_positions - 1) / (n_slices - 1)
    return 1 + torch.floor(places + 0.5 - 1e-9).to(torch.int64)


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


class LoadOctVolumed(MapTransform):
    """Load OCT volumes as `(1, S, H, W)` tensors.

    NIfTI as written by the conversion, or a file of any supported format, which is then prepared
    like a converted one. The meta data hold `filename_or_obj`, `spacing_mm` (between, axial,
    lateral; NaN where unknown), and `background` and `bright` of the whole volume for
    `NormalizeOctd`.

    Args:
        keys: items with a path.
        dtype: "uint8" keeps the pixels as they are; "float32" has the same values.
        options: for other formats than NIfTI: fields of `ReadOptions`; `spacing` may be text.
        allow_missing_keys: pass over keys that an item lacks.

    Raises:
        FileNotFoundError: if a file is missing.
        OctReadError: if it cannot be read.
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
        self.options = read_options(options)

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
        if path.name.lower().endswith((".nii", ".nii.gz")):
            pixels, spacing = read_nifti(path)
        else:
            volume = prepare_volume(read_oct(path, self.options), self.options)
            pixels, spacing = volume.pixels, volume.spacing
            meta["provenance"] = json.dumps(volume.provenance)
            meta["warnings"] = json.dumps(volume.warnings)
        meta["background"], meta["bright"] = intensity_levels(pixels)
        meta["spacing_mm"] = [_or_nan(spacing[i]) for i in (2, 1, 0)]
        array = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.dtype)
        return MetaTensor(array[None], affine=_affine(spacing), meta=meta)


class SampleSlicesd(Randomizable, MapTransform):
    """Keep some random B-scans of `(C, S, H, W)` volumes, sorted, with their position ids.

    All keys lose the same slices. A volume with fewer slices than asked keeps all; with
    `fewer="repeat"` random ones of them come twice or more, so that batches can be collated.

    Args:
        keys: volumes of equal S.
        num_slices: how many to keep.
        position_key: where the ids (int64, `(num_slices,)`, 1..`num_positions`) are put.
        num_positions: number of ids; see `position_ids`.
        fewer: "repeat" or "all", for volumes with fewer slices.
        allow_missing_keys: pass over keys that an item lacks.

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
        item[self.position_key] = position_ids(n_slices, self.num_positions)[chosen]
        return item


class AllSlicesd(MapTransform):
    """Keep all B-scans and add their position ids: the evaluation's part of `SampleSlicesd`.

    Args:
        keys: volumes of equal S, `(C, S, H, W)`.
        position_key: where the ids (int64, `(S,)`) are put.
        num_positions: number of ids; see `position_ids`.
        allow_missing_keys: pass over keys that an item lacks.
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
        item[self.position_key] = position_ids(_slices(self, item), self.num_positions)
        return item


class NormalizeOctd(MapTransform):
    """Bring pixels to float32 so that 0 means "nothing there" and 1 is bright tissue.

    x = (pixel - background) / (bright - background). The levels are the whole volume's, as
    `LoadOctVolumed` noted them, or fixed numbers, which keep volumes comparable. Pixels that were
    not recorded (exactly 0) and padding become 0 too. The noise of the background lies on both
    sides of 0, so that a region replaced by 0 looks like background on average.

    Args:
        keys: volumes of any shape.
        background: pixel value that becomes 0, or `None` for the volume's own.
        bright: pixel value that becomes 1, or `None` for the volume's own.
        clip: largest absolute value kept, or `None`.
        allow_missing_keys: pass over keys that an item lacks.

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
        prob: of a change.
        gamma: smallest and largest exponent, drawn evenly on the log scale.
        allow_missing_keys: pass over keys that an item lacks.
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


def read_options(options: ReadOptions | Mapping[str, Any] | None) -> ReadOptions:
    """Build `ReadOptions` from what a JSON configuration can say.

    Examples:
        >>> read_options({"spacing": "0.006,0.004,?", "pad_width": 1000}).spacing.axial
        0.004
    """
    if options is None:
        return ReadOptions()
    if isinstance(options, ReadOptions):
        return options
    known = dict(options)
    spacing = known.get("spacing")
    if isinstance(spacing, str):
        known["spacing"] = parse_spacing(spacing)
    elif isinstance(spacing, Sequence):
        known["spacing"] = Spacing(*spacing)
    for name in ("shape", "window"):
        if known.get(name) is not None:
            known[name] = tuple(known[name])
    return ReadOptions(**known)


def _slices(transform: MapTransform, item: Mapping[Hashable, Any]) -> int:
    """Return S, the same for all keys of an item."""
    counts = {key: int(item[key].shape[1]) for key in transform.key_iterator(item)}
    if len(set(counts.values())) != 1:
        raise ValueError(f"the volumes have {counts} slices, expected equal numbers.")
    return next(iter(counts.values()))


def _affine(spacing: Spacing) -> torch.Tensor:
    """Return the affine of an `(S, H, W)` array to the NIfTI's (lateral, axial, between) in mm.

    Where a distance is unknown it is 1, as in the NIfTI.
    """
    affine = torch.zeros(4, 4, dtype=torch.float64)
    for axis, size in enumerate(reversed(spacing)):
        affine[2 - axis, axis] = size or 1.0
    affine[3, 3] = 1.0
    return affine


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
