"""Cutting patches from a slice: Hounsfield units, the readers' masks, union and majority."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.pixels import Slice
from ppi_med.data.dicom.values import PADDING, is_ct
from ppi_med.data.lidc.annotations import (
    MAX_READERS,
    Annotation,
    contour_box,
    contour_mask,
    majority_of,
)
from ppi_med.data.lidc.plan import PatchOptions, Wanted

NO_READER, NOT_MARKED, MARKED = 0, 1, 2
"""State of a slot: no such reader; a reader without an outline on this slice; with one."""


@dataclass(frozen=True)
class Patch:
    """One patch.

    Attributes:
        hu: int16, `(size, size)`.
        readers: uint8, `(4, size, size)`.
        state: int8, `(4,)`: `NO_READER`, `NOT_MARKED` or `MARKED`.
        union: uint8, `(size, size)`: marked by any annotation of the nodule.
        majority: uint8, `(size, size)`.
        origin: row and column of the patch's first pixel in the slice.
        padding_px: pixels without a value.
    """

    hu: NDArray[np.int16]
    readers: NDArray[np.uint8]
    state: NDArray[np.int8]
    union: NDArray[np.uint8]
    majority: NDArray[np.uint8]
    origin: tuple[float, float]
    padding_px: int


def slice_hu(found: Slice) -> NDArray[np.int16]:
    """Return a slice in HU, rounded to whole numbers; `PADDING` where nothing was scanned.

    Raises:
        ValueError: for a slice that is not one grey image, or whose values are not HU.
    """
    if found.stored.ndim != 2:
        raise ValueError(f"the slice has the shape {found.stored.shape}, expected rows x columns")
    if not is_ct(found.dataset):
        raise ValueError("the slice is no CT: its values are not Hounsfield units")
    exact = found.values()
    if exact.dtype.kind == "f":
        exact = np.rint(exact)
    if exact.min() < -(2**15) or exact.max() >= 2**15:
        raise ValueError(f"values up to {exact.max():g} HU, expected at most {2**15 - 1}")
    return np.asarray(exact.astype(np.int16))


def cut_patch(
    hu: NDArray[np.int16], spacing: tuple[float, float], wanted: Wanted, options: PatchOptions
) -> Patch:
    """Cut one patch.

    Args:
        hu: the slice.
        spacing: mm between rows, between columns.
        wanted: nodule, slice and centre.
        options: size, spacing, majority.

    Returns:
        The patch. With `spacing_mm` HU are interpolated linearly, masks by the nearest pixel.
    """
    steps = (1.0, 1.0)
    if options.spacing_mm is not None:
        steps = (options.spacing_mm / spacing[0], options.spacing_mm / spacing[1])
    half = options.size // 2
    places = [
        center + (np.arange(options.size) - half) * step
        for center, step in zip(wanted.center, steps, strict=True)
    ]
    values, missing = _sample(hu, places[0], places[1])
    nearest = [np.floor(place + 0.5).astype(int) for place in places]
    members = {id(m): _reader(m, wanted.z_mm, nearest) for m in wanted.nodule.members}
    marked = [mask for mask in members.values() if mask is not None]
    drawn = np.array(marked, np.uint8).reshape(len(marked), *missing.shape)
    readers = np.zeros((MAX_READERS, *missing.shape), np.uint8)
    state = np.zeros(MAX_READERS, np.int8)
    for slot, annotation in enumerate(wanted.nodule.readers):
        mask = members[id(annotation)]
        state[slot] = NOT_MARKED if mask is None else MARKED
        if mask is not None:
            readers[slot] = mask
    return Patch(
        values,
        readers,
        state,
        np.asarray(drawn.any(axis=0), np.uint8),
        majority_of(drawn, len(marked), options.majority),
        (float(places[0][0]), float(places[1][0])),
        int(missing.sum()),
    )


def _reader(
    annotation: Annotation, z_mm: float, nearest: list[NDArray[Any]]
) -> NDArray[np.uint8] | None:
    """Return one reader's mask on the patch's grid, `None` without an outline on the slice."""
    contours = annotation.on_slice(z_mm)
    if not any(contour.inclusion for contour in contours):
        return None
    top, bottom, left, right = contour_box(contours)
    window = contour_mask(contours, (top, left), (bottom - top + 1, right - left + 1))
    taken, outside = _take(window, nearest[0] - top, nearest[1] - left)
    return np.asarray((taken & ~outside).astype(np.uint8))


def _take(
    image: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the pixels at rows x columns, and a mask of those outside the image."""
    inside = [(k >= 0) & (k < n) for k, n in zip((rows, columns), image.shape, strict=True)]
    safe = [np.where(ok, k, 0) for ok, k in zip(inside, (rows, columns), strict=True)]
    return image[np.ix_(*safe)], ~np.logical_and.outer(*inside)


def _sample(
    hu: NDArray[np.int16], rows: NDArray[Any], columns: NDArray[Any]
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Interpolate linearly; a pixel that would need a missing value is missing."""
    base = [np.floor(place).astype(int) for place in (rows, columns)]
    share = [place - low for place, low in zip((rows, columns), base, strict=True)]
    total = np.zeros((len(rows), len(columns)))
    missing = np.zeros(total.shape, bool)
    for down in (0, 1):
        for right in (0, 1):
            weight = np.outer(
                share[0] if down else 1 - share[0], share[1] if right else 1 - share[1]
            )
            values, outside = _take(hu, base[0] + down, base[1] + right)
            missing |= (outside | (values == PADDING)) & (weight > 0)
            total += weight * values
    return np.where(missing, PADDING, np.rint(total)).astype(np.int16), missing
