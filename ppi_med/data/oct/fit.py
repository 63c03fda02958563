"""From a volume's own grid to the one per network was trained on, and maps back again.

Every step is a matrix on the rows and one on the columns of a B-scan, whose rows sum to 1: a pixel
of the network's grid is a weighted mean of the volume's. A map is mapped back by the transposed
matrices: each pixel's relevance is spread over its source pixels, and the sum over a B-scan stays
the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ppi_med.data.oct.intensity import intensity_levels

_SLICES = 16


def resampling_matrix(source: int, target: int) -> Tensor:
    """Return the matrix that resamples `source` samples to `target`, float64 `(target, source)`.

    Fewer samples are means over equal intervals (area), with fractions where a sample lies on a
    border. More samples are interpolated linearly between the centres, the edges repeated.

    Raises:
        ValueError: for fewer than one sample.

    Examples:
        >>> resampling_matrix(4, 2)
        tensor([[0.5000, 0.5000, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.5000, 0.5000]], dtype=torch.float64)
    """
    if source < 1 or target < 1:
        raise ValueError(f"cannot resample {source} samples to {target}, expected 1 or more.")
    step = source / target
    samples = torch.arange(source, dtype=torch.float64)
    start = torch.arange(target, dtype=torch.float64)[:, None] * step
    if target <= source:
        overlap = torch.minimum(start + step, samples + 1) - torch.maximum(start, samples)
        matrix = overlap.clamp_min(0)
    else:
        centre = (start + 0.5 * step - 0.5).clamp(0, source - 1)
        matrix = (1 - (centre - samples).abs()).clamp_min(0)
    return matrix / matrix.sum(1, keepdim=True)


def padding_matrix(source: int, target: int) -> Tensor:
    """Return the matrix that repeats the edges, as in the conversion (Appendix E.1).

    Half of the new samples go to each side, an odd one to the end.

    Examples:
        >>> padding_matrix(2, 4).argmax(1)
        tensor([0, 0, 1, 1])
    """
    if not 1 <= source <= target:
        raise ValueError(f"cannot pad {source} samples to {target}, expected as many or more.")
    taken = torch.arange(target) - (target - source) // 2
    return torch.eye(source, dtype=torch.float64)[taken.clamp(0, source - 1)]


def pads(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Say whether B-scans of `shape` are padded to `size`, not resampled."""
    return shape[0] == size[0] and shape[1] <= size[1]


def fitting_matrices(shape: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the matrices for rows and columns that bring B-scans of `shape` to `size`.

    B-scans of the trained depth that are narrower are padded by repeating the edge, like the
    converted volumes. All others are resampled to the trained size.

    Returns:
        `(size[0], shape[0])` and `(size[1], shape[1])`.
    """
    (depth, width), (rows, columns) = shape, size
    if pads(shape, size):
        return torch.eye(rows, dtype=torch.float64), padding_matrix(width, columns)
    return resampling_matrix(depth, rows), resampling_matrix(width, columns)


def fitted_axes(
    shape: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the places of the fitted pixels: for rows and columns the step and the first centre.

    Both are in pixels of the volume: the centre of fitted pixel i is at `first + i * step`.

    Examples:
        >>> fitted_axes((4, 6), (2, 3)), fitted_axes((4, 6), (4, 9))
        (((2.0, 0.5), (2.0, 0.5)), ((1.0, 0.0), (1.0, -1.0)))
    """
    if pads(shape, size):
        return (1.0, 0.0), (1.0, -float((size[1] - shape[1]) // 2))
    steps = (shape[0] / size[0], shape[1] / size[1])
    return (steps[0], (steps[0] - 1) / 2), (steps[1], (steps[1] - 1) / 2)


def describe_fit(shape: tuple[int, int], size: tuple[int, int]) -> str:
    """Describe what `fit_slices` does.

    Examples:
        >>> describe_fit((496, 512), (64, 96))
        'B-scans of 496 x 512 resampled to 64 x 96'
    """
    if shape == size:
        return f"B-scans of {shape[0]} x {shape[1]} as they are"
    how = "padded by repeating the edge to" if pads(shape, size) else "resampled to"
    return f"B-scans of {shape[0]} x {shape[1]} {how} {size[0]} x {size[1]}"


def fit_slices(volume: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring the B-scans of a volume to `size`; see `fitting_matrices`.

    Args:
        volume: `(..., S, H, W)`, any numeric type.
        size: (depth, width).

    Returns:
        `(..., S, *size)`. A volume that already has that size is returned as it is; any other as
        float32.

    Examples:
        >>> fit_slices(torch.tensor([[[1, 3], [5, 7]]], dtype=torch.uint8), (1, 1))
        tensor([[[4.]]])
    """
    if tuple(volume.shape[-2:]) == tuple(size):
        return volume
    down, across = fitting_matrices((volume.shape[-2], volume.shape[-1]), size)
    return _multiplied(volume, down, across.T)


def spread_map(saliency: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bring a map of fitted B-scans back to the volume's own grid; the sums stay.

    The adjoint of `fit_slices`: each value is distributed over the pixels that its pixel averages,
    in proportion to their weights.

    Args:
        saliency: `(..., S, h, w)`.
        shape: (depth, width) of the volume.

    Returns:
        `(..., S, *shape)`, float32.

    Examples:
        >>> spread_map(torch.tensor([[[4.0]]]), (2, 2))
        tensor([[[1., 1.],
                 [1., 1.]]])
    """
    if tuple(saliency.shape[-2:]) == tuple(shape):
        return saliency.to(torch.float32)
    down, across = fitting_matrices(shape, (saliency.shape[-2], saliency.shape[-1]))
    return _multiplied(saliency, down.T, across)


def spread_mask(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bring a mask of fitted B-scans to the volume's own grid: each pixel is in where its own is.

    Args:
        mask: bool `(h, w)`.
        shape: (depth, width) of the volume.

    Returns:
        Bool `(*shape)`.

    Examples:
        >>> spread_mask(torch.tensor([[True, False]]), (1, 4))
        tensor([[ True,  True, False, False]])
    """
    size = (mask.shape[0], mask.shape[1])
    rows, columns = (
        ((torch.arange(count) - first) / step).round().long().clamp(0, length - 1)
        for count, length, (step, first) in zip(shape, size, fitted_axes(shape, size), strict=True)
    )
    return mask[rows][:, columns]


def _multiplied(volume: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ slice @ right` for each slice, a few at a time: 8-bit volumes are large."""
    left = left.to(volume.device, torch.float32)
    right = right.to(volume.device, torch.float32)
    slices = volume.reshape(-1, volume.shape[-2], volume.shape[-1])
    done = [left @ part.to(torch.float32) @ right for part in slices.split(_SLICES)]
    return torch.cat(done).reshape(*volume.shape[:-2], left.shape[0], right.shape[1])


class FitSlicesd(MapTransform):
    """Bring B-scans to the size that a network was trained on; see `fitting_matrices`.

    Put it before `NormalizeOctd`, which then takes its levels from the fitted volume: the network
    gets the same as for a volume recorded at the trained size.

    Args:
        keys: volumes `(1, S, H, W)`.
        size: (depth, width), or `None` to leave every volume as it is.
        allow_missing_keys: skip keys that an item lacks.

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
        # The values from loading are those of the original volume.
        low, high = intensity_levels(fitted.reshape(-1, *size).cpu().numpy())
        meta = dict(volume.meta) | {"background": low, "bright": high}
        return MetaTensor(fitted, meta=meta | _geometry(volume, size))


def _geometry(volume: MetaTensor, size: tuple[int, int]) -> dict[str, Any]:
    """Return affine and spacing of a fitted volume, with its pixels' centres where they were."""
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
