"""The meaning of a stored value: its bits, its sign, and its conversion to Hounsfield units.

Index, volumes, patches and export all use this module. A CT whose values are not known to be
Hounsfield units is named with the reason, and its values are never used as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLOPE, INTERCEPT, KIND = "RescaleSlope", "RescaleIntercept", "RescaleType"
TAGS = (
    *(SLOPE, INTERCEPT, KIND, "ModalityLUTSequence"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PhotometricInterpretation"),
)
"""Elements that `value_problem` and `unit_problem` read, besides modality and SOP class."""

PADDING = -2000
"""HU where nothing was scanned: declared as padding, or at most this value, which no tissue has."""

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_TRANSFORMATION = "PixelValueTransformationSequence"
_NEEDED = ("BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
# Of CT, with room: extended scales have a slope of 10, and -8192.
_SLOPES, _INTERCEPT = (1e-3, 1e2), 1e5
# DICOM's defined terms of Rescale Type (PS3.3 C.11.1.1.2): any other text is not repeated.
_KINDS = ("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")


def is_ct(dataset: Any) -> bool:
    """Say whether the values must be Hounsfield units: by modality or by SOP class."""
    found = str(dataset.get("SOPClassUID", ""))
    return str(dataset.get("Modality", "")).strip() == "CT" or found in _CT_CLASSES


def value_problem(dataset: Any) -> str:
    """Return why the stored values give no numbers, or "".

    Args:
        dataset: pydicom's; `TAGS` of it are enough.
    """
    missing = [name for name in _NEEDED if _is_empty(dataset.get(name))]
    if missing:
        return f"no {missing[0]}"
    floats = dataset.get("BitsStored") is None and dataset.BitsAllocated in (32, 64)
    if not floats and _bits(dataset) is None:
        return "BitsAllocated, BitsStored and HighBit are missing or do not fit each other"
    if not floats and dataset.get("PixelRepresentation") not in (0, 1):
        return "PixelRepresentation is missing or not 0 or 1"
    if dataset.SamplesPerPixel == 1 and dataset.PhotometricInterpretation not in _GREY:
        return "PhotometricInterpretation is not that of grey values"
    groups = _transformations(dataset)
    if any(group.get("ModalityLUTSequence") for group in (dataset, *groups)):
        return "a modality lookup table in the place of rescale slope and intercept"
    if len(dataset.get(_GROUPS[0]) or []) > 1 or any(
        len(group.get(_TRANSFORMATION) or []) > 1 for group in groups
    ):
        return "several rescales of one frame"
    try:
        list(rescales(dataset))
    except ValueError as error:
        return str(error)
    return ""


def unit_problem(dataset: Any) -> str:
    """Return why the values of a CT are not known to be Hounsfield units, or "".

    Without `RescaleType` the values of a CT are HU, as DICOM says. Other modalities have their own
    units, which are not checked.

    Args:
        dataset: pydicom's; `TAGS` of it are enough.
    """
    if not is_ct(dataset):
        return ""
    for keyword in (SLOPE, INTERCEPT):
        if any(_is_empty(holder.get(keyword)) for holder in rescale_holders(dataset, keyword)):
            return f"no {keyword}: the stored values are not known to be Hounsfield units"
    for holder in rescale_holders(dataset, KIND):
        kind = str(holder.get(KIND) or "HU").strip().upper() or "HU"
        if kind != "HU":
            shown = kind if kind in _KINDS else "unknown to DICOM"
            return f"{KIND} is {shown}, expected HU"
    try:
        found = set(rescales(dataset))
    except ValueError:
        return ""  # `value_problem` names it
    if all(_SLOPES[0] <= abs(a) <= _SLOPES[1] and abs(b) <= _INTERCEPT for a, b in found):
        return ""
    return f"a {SLOPE} or {INTERCEPT} that no Hounsfield units have"


def rescales(dataset: Any) -> Iterator[tuple[float, float]]:
    """Yield slope and intercept of each frame, or once for all of them; 1 and 0 if they are absent.

    A frame's own come first, then those that the frames share, then the file's: both from one of
    these.

    Raises:
        ValueError: for a slope or intercept that is not one finite number, or a slope of 0.
    """
    slopes = [_number(h, SLOPE, 1.0) for h in rescale_holders(dataset, SLOPE)]
    intercepts = [_number(h, INTERCEPT, 0.0) for h in rescale_holders(dataset, INTERCEPT)]
    if 0 in slopes:
        raise ValueError(f"{SLOPE} is 0: all values would be the same")
    yield from zip(slopes, intercepts, strict=True)


def rescale_holders(dataset: Any, keyword: str) -> list[Any]:
    """Return for each frame the element's holder: its own group, the shared one, or the file.

    Args:
        dataset: pydicom's, of a whole file.
        keyword: `SLOPE`, `INTERCEPT` or `KIND`.

    Returns:
        Data sets for `get(keyword)`, one per frame; a single one if the frames have no groups of
        their own.
    """
    shared = dataset.get(_GROUPS[0]) or []
    frames = dataset.get(_GROUPS[1]) or [{}]
    # A slope from here and an intercept from there would be neither's values.
    words = (KIND,) if keyword == KIND else (SLOPE, INTERCEPT)
    found = []
    for frame in frames:
        inner = [group.get(_TRANSFORMATION) for group in (frame, *shared[:1])]
        holders = [i[0] for i in inner if i and any(word in i[0] for word in words)]
        found.append(holders[0] if holders else dataset)
    return found


def _transformations(dataset: Any) -> list[Any]:
    """Return all functional groups, and what they say of the values."""
    groups = [group for name in _GROUPS for group in dataset.get(name) or []]
    return [*groups, *(inner for group in groups for inner in group.get(_TRANSFORMATION) or [])]


def stored_values(
    raw: NDArray[Any], dataset: Any, precision: int | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the numbers of the decoded pixels, and which pixels are padding.

    Only the `BitsStored` bits up to `HighBit` count, with their sign: the bits above may be
    overlays, and those below leftovers of a left-justified file.

    Args:
        raw: decoded pixels with all of their bits.
        dataset: data set of the file.
        precision: bits of a compressed stream; if they are `BitsStored`, nothing is below them.

    Returns:
        Values in the type of `raw`, and bool of the same shape: the pixels of `PixelPaddingValue`
        (0028,0120), up to `PixelPaddingRangeLimit` (0028,0121) if that is given.
    """
    bits = _bits(dataset)
    if bits is None or raw.dtype.kind not in "iu" or raw.dtype.itemsize * 8 < bits[0]:
        return raw, np.zeros(raw.shape, bool)
    allocated, stored, high = bits
    low = 0 if precision == stored else high + 1 - stored
    signed = raw.dtype.kind == "i"
    values = raw
    if stored < 8 * raw.dtype.itemsize:
        plain = raw.view(raw.dtype.str.replace("i", "u"))
        cut = (plain >> plain.dtype.type(low)) & plain.dtype.type((1 << stored) - 1)
        if signed:
            top = plain.dtype.type(1 << (stored - 1))
            cut = (cut ^ top) - top
        values = cut.view(raw.dtype)
    limits = _padding(dataset, allocated, signed)
    if limits is None:
        return values, np.zeros(raw.shape, bool)
    inside = (values >= limits[0]) & (values <= limits[1])
    if low == 0 and _outside(limits, stored, signed):
        # A value that the stored bits cannot hold is compared by all bits of the pixel.
        inside |= (raw >= limits[0]) & (raw <= limits[1])
    return values, np.asarray(inside)


def real_values(
    stored: NDArray[Any], padding: NDArray[np.bool_], dataset: Any, *, any_unit: bool = False
) -> NDArray[Any]:
    """Return stored value x slope + intercept: whole numbers if both are, else float64.

    Args:
        stored: from `stored_values`; if frames are rescaled differently, they are the first axis.
        padding: from `stored_values`.
        dataset: data set of the file.
        any_unit: take a CT whose values are not known to be HU.

    Returns:
        HU of a CT, `PADDING` where nothing was scanned; otherwise the modality's own values.

    Raises:
        ValueError: naming the fault, without any content of the file.
    """
    problem = value_problem(dataset) or ("" if any_unit else unit_problem(dataset))
    if problem:
        raise ValueError(problem)
    pairs = list(rescales(dataset))
    if len(set(pairs)) == 1:
        values = _rescaled(stored, *pairs[0])
    elif len(pairs) == len(stored):
        frames = zip(stored, pairs, strict=True)
        values = np.stack([_rescaled(frame, *pair) for frame, pair in frames])
    else:
        raise ValueError("slope and intercept are not one per frame")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("pixels that are not finite numbers")
    if is_ct(dataset):
        values[padding | (values <= PADDING)] = PADDING
    return values


def _rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    whole = slope == 1 and intercept.is_integer() and abs(intercept) < 2**30
    if whole and stored.dtype.kind in "iu" and stored.dtype.itemsize <= 4:
        kind = np.dtype(np.int32 if stored.dtype.itemsize <= 2 else np.int64)
        return np.asarray(stored.astype(kind) + kind.type(intercept))
    return np.asarray(stored.astype(np.float64) * slope + intercept)


def _bits(dataset: Any) -> tuple[int, int, int] | None:
    """Return bits allocated, bits stored and the highest bit; None if they do not fit."""
    allocated, stored = (_whole(dataset.get(name)) for name in ("BitsAllocated", "BitsStored"))
    high = _whole(dataset.get("HighBit"))
    if allocated is None or stored is None:
        return None
    high = stored - 1 if high is None else high
    known = allocated in (1, 8, 16, 32, 64)
    return (allocated, stored, high) if known and 1 <= stored <= high + 1 <= allocated else None


def _padding(dataset: Any, allocated: int, signed: bool) -> tuple[int, int] | None:
    """Return lowest and highest padding, None without: its bits, whatever the element's sign."""
    value = _whole(dataset.get("PixelPaddingValue"))
    if value is None:
        return None
    limit = _whole(dataset.get("PixelPaddingRangeLimit"))
    found = [number % (1 << allocated) for number in (value, value if limit is None else limit)]
    if signed:
        found = [n - (1 << allocated) if n >> (allocated - 1) else n for n in found]
    return min(found), max(found)


def _outside(limits: tuple[int, int], stored: int, signed: bool) -> bool:
    low, high = (
        (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if signed else (0, (1 << stored) - 1)
    )
    return limits[1] < low or limits[0] > high


def _number(holder: Any, keyword: str, absent: float) -> float:
    try:
        value = holder.get(keyword)
        number = absent if _is_empty(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) < 1e12:
        raise ValueError(f"{keyword} is not a number")
    return number


def _whole(value: Any) -> int | None:
    try:
        return None if _is_empty(value) else int(value)
    except (TypeError, ValueError):
        return None


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
