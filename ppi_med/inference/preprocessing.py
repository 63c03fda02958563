"""What a volume passes through before the network sees it: the fit and the training's steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from torch import Tensor

from ppi_med.data.oct.transforms import AllSlicesd, NormalizeOctd, intensity_levels
from ppi_med.inference.fit import fit_slices, fitted_axes


class FitSlicesd(MapTransform):
    """Bring B-scans to the size that a network was trained on; see `fit.fitting_matrices`.

    It stands before `NormalizeOctd`, which then takes its levels from the fitted volume: the
    network gets what it would have got, had the volume been recorded at the trained size.

    Args:
        keys: volumes `(1, S, H, W)`.
        size: (depth, width), or `None` to leave every volume as it is.
        allow_missing_keys: pass over keys that an item lacks.

    Raises:
        ValueError: if the size is not two positive numbers.

    Examples:
        >>> import torch
        >>> FitSlicesd("image", (64, 96))({"image": torch.zeros(1, 3, 496, 512)})["image"].shape
        torch.Size([1, 3, 64, 96])
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int] | None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size is {list(size)}, expected (depth, width) in pixels, or None.")
        self.size = None if size is None else (int(size[0]), int(size[1]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its volumes fitted."""
        item = dict(data)
        if self.size is not None:
            for key in self.key_iterator(item):
                item[key] = self._fit(item[key], self.size)
        return item

    def _fit(self, volume: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(volume.shape[-2:]) == size:
            return volume
        if not isinstance(volume, MetaTensor):
            return fit_slices(volume, size)
        fitted = fit_slices(volume.as_tensor(), size)
        # What was noted at loading is true of the volume before.
        low, high = intensity_levels(fitted.reshape(-1, *size).cpu().numpy())
        meta = dict(volume.meta) | {"background": low, "bright": high}
        return MetaTensor(fitted, meta=meta | _geometry(volume, size))


def _geometry(volume: MetaTensor, size: tuple[int, int]) -> dict[str, Any]:
    """Return affine and spacing of a fitted volume: the centres of its pixels, where they were."""
    shape = (int(volume.shape[-2]), int(volume.shape[-1]))
    to_own = torch.eye(4, dtype=torch.float64)
    steps = [1.0]
    for axis, (step, first) in enumerate(fitted_axes(shape, size), start=1):
        to_own[axis, axis], to_own[axis, 3] = step, first
        steps.append(step)
    known = volume.meta.get("spacing_mm", [float("nan")] * 3)
    return {
        "affine": volume.affine.to(torch.float64) @ to_own,
        "spacing_mm": [float(value) * step for value, step in zip(known, steps, strict=True)],
    }


def standard_preprocessing(size: Sequence[int] | None = None, num_positions: int = 100) -> Compose:
    """Return what the bundle's evaluation does to a volume `image` of 8-bit pixels.

    Args:
        size: (depth, width) of the network's training, or `None` for the volume's own.
        num_positions: of the network.

    Returns:
        A transform of items `{"image": (1, S, H, W)}`; it adds `positions`, `(S,)`.
    """
    return Compose(
        [
            FitSlicesd("image", size),
            AllSlicesd("image", num_positions=num_positions),
            NormalizeOctd("image"),
        ]
    )
