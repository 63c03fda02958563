"""From a source's volume to the one that is written: facts, 8 bits, width."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import (
    FROM_FILE,
    Laterality,
    OctReadError,
    OctVolume,
    Pixels,
    Spacing,
    check_size,
)

_AGREE = 0.01
"""Largest relative difference of two equal spacings."""


class PixelHash(NamedTuple):
    """SHA-256 of a volume's pixels: in order, and as a set of B-scans in any order."""

    ordered: str
    unordered: str


@dataclass
class PreparedVolume:
    """A volume ready to be written or shown to a network.

    Attributes:
        pixels: uint8, `(n_bscans, depth, width)`.
        mask: uint8 of the same shape, or `None`.
        spacing: mm.
        laterality: the side.
        hash: hash of the pixels as read, before padding.
        provenance: for each value, where it came from.
        warnings: sentences.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    spacing: Spacing
    laterality: Laterality | None
    hash: PixelHash
    provenance: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def prepare_volume(volume: OctVolume, options: ReadOptions | None = None) -> PreparedVolume:
    """Fill in what the user knows, bring the pixels to 8 bits and widen narrow B-scans.

    The file has priority over the user, except with `spacing_overrides`; a disagreement is a
    warning. What neither states stays unknown, with a warning.

    Examples:
        >>> from pathlib import Path
        >>> raw = OctVolume(np.zeros((2, 4, 3), np.uint8), reader="example", source=Path("a"))
        >>> done = prepare_volume(raw, ReadOptions(pad_width=5, spacing=Spacing(axial=0.004)))
        >>> done.pixels.shape, done.spacing.axial, done.provenance["spacing_axial_mm"]
        ((2, 4, 5), 0.004, 'user: --spacing')
    """
    options = options or ReadOptions()
    provenance, warnings = dict(volume.provenance), list(volume.warnings)
    spacing = _spacing(volume, options, provenance, warnings)
    laterality = volume.laterality
    if laterality is None and options.laterality is not None:
        laterality = options.laterality
        provenance["eye"] = "user: --laterality"
    elif laterality is not None:
        provenance.setdefault("eye", FROM_FILE)
        if options.laterality not in (None, laterality):
            text = f"the file says {laterality}: --laterality {options.laterality} unused."
            warnings.append(text)
    window = None if provenance.get("pixels", "").startswith("user: window") else options.window
    pixels, rule = to_uint8(volume.pixels, window)
    if rule:
        provenance["pixels"] = rule
    width = options.pad_width or 0
    check_size(volume.source, (*pixels.shape[:2], max(width, pixels.shape[2])), 1)
    padded, (left, right) = pad_width(pixels, width)
    mask = None if volume.mask is None else pad_width(volume.mask, width)[0]
    if left or right:
        provenance["width_px"] = (
            f"rule: {pixels.shape[2]} A-scans padded to {width} by repeating the edge "
            f"({left} left, {right} right)"
        )
    elif width and pixels.shape[2] > width:
        warnings.append(f"{pixels.shape[2]} A-scans are more than --pad-width {width}: left as is.")
    return PreparedVolume(
        padded, mask, spacing, laterality, pixel_hash(volume.pixels), provenance, warnings
    )


def _spacing(
    volume: OctVolume, options: ReadOptions, provenance: dict[str, str], warnings: list[str]
) -> Spacing:
    values: dict[str, float | None] = {}
    for name, own in volume.spacing._asdict().items():
        given: float | None = getattr(options.spacing, name)
        key = f"spacing_{name}_mm"
        if given is None or (own is not None and not options.spacing_overrides):
            values[name] = own
            if own is not None:
                provenance.setdefault(key, FROM_FILE)
            if own is not None and given is not None and abs(own - given) > _AGREE * own:
                warnings.append(
                    f"the file says {own:g} mm for the {name} spacing, --spacing {given:g} unused."
                )
            continue
        if own is not None and abs(own - given) > _AGREE * own:
            warnings.append(f"{name} spacing {own:g} mm of the file replaced by {given:g} mm.")
        values[name] = given
        provenance[key] = "user: --spacing"
    spacing = Spacing(**values)
    if volume.pixels.shape[0] == 1 and spacing.between is None:
        missing = tuple(name for name in spacing.missing() if name != "between")
    else:
        missing = spacing.missing()
    if missing:
        warnings.append(
            f"spacing unknown ({', '.join(missing)}): give --spacing LATERAL,AXIAL,BETWEEN if you "
            "know it."
        )
    return spacing


def to_unsigned(
    path: Path, array: NDArray[Any], window: tuple[float, float] | None = None
) -> tuple[Pixels, str]:
    """Return `array` as uint8 or uint16 and the rule that made it ("" if it already was).

    Whole numbers from 0 to 65,535 keep their values, in any stored type. Anything else needs a
    window: two values that become 0 and 255; values outside are clipped.

    Args:
        path: the source, for the message.
        array: any numeric type.
        window: (low, high) or `None`.

    Raises:
        OctReadError: for fractions, negative or larger values without a window.

    Examples:
        >>> pixels, rule = to_unsigned(Path("a"), np.array([[[0.0, 7.0]]]))
        >>> pixels.dtype, rule
        (dtype('uint8'), 'rule: whole numbers stored as float64 kept as uint8')
    """
    if window is not None:
        return _windowed(array, window), f"user: window {window[0]:g} to {window[1]:g} to 0..255"
    if array.dtype == np.dtype(np.uint8):
        return np.ascontiguousarray(array, np.uint8), ""
    if array.dtype == np.dtype(np.uint16):
        return np.ascontiguousarray(array, np.uint16), ""
    if array.dtype == np.dtype(bool):
        raise OctReadError(path, "the pixels are only true and false: a mask, not an OCT volume.")
    low, high = array.min(), array.max()
    whole = array.dtype.kind in "ui" or bool(np.isfinite(low + high) and (array % 1 == 0).all())
    if not whole or low < 0 or high > 65535:
        raise OctReadError(
            path,
            f"the pixels are {array.dtype} from {low:g} to {high:g}, expected whole numbers from 0 "
            "to 65535; give --window LOW,HIGH to say which values become 0 and 255.",
        )
    kept: Pixels = (
        np.ascontiguousarray(array, np.uint8)
        if high <= 255
        else np.ascontiguousarray(array, np.uint16)
    )
    return kept, f"rule: whole numbers stored as {array.dtype} kept as {kept.dtype}"


def to_uint8(
    pixels: Pixels, window: tuple[float, float] | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Return 8-bit pixels and the rule that made them ("" if they already were 8-bit).

    16-bit pixels are shifted right by the fewest bits that bring the largest below 256: a power of
    two keeps equal recordings comparable, and 0 stays 0. With `window` its two values become 0 and
    255.

    Examples:
        >>> to_uint8(np.array([[[0, 4095]]], np.uint16))
        (array([[[  0, 255]]], dtype=uint8), 'rule: 16-bit pixels divided by 2**4')
    """
    if window is not None:
        return _windowed(pixels, window), f"user: window {window[0]:g} to {window[1]:g} to 0..255"
    if pixels.dtype == np.dtype(np.uint8):
        return pixels.astype(np.uint8, copy=False), ""
    shift = max(int(pixels.max()).bit_length() - 8, 0)
    return (pixels >> shift).astype(np.uint8), f"rule: 16-bit pixels divided by 2**{shift}"


def _windowed(array: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Map the window linearly to 0..255, one B-scan at a time to bound the memory."""
    low, high = window
    if not high > low:
        raise ValueError(f"window is {window}, expected two values of which the second is larger.")
    result = np.empty(array.shape, np.uint8)
    for index in range(array.shape[0]):
        plane = (array[index].astype(np.float64) - low) * (255.0 / (high - low))
        result[index] = np.nan_to_num(np.clip(np.rint(plane), 0, 255), nan=0.0)
    return result


def pad_width(array: NDArray[np.uint8], width: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Widen `(S, H, W)` to `width` A-scans by repeating the edge (Appendix E.1).

    Half of the new columns go to each side, an odd one to the right. A volume that is already as
    wide is unchanged.

    Returns:
        The array and the number of columns added left and right.

    Examples:
        >>> pad_width(np.array([[[1, 2]]], np.uint8), 5)[0]
        array([[[1, 1, 2, 2, 2]]], dtype=uint8)
    """
    missing = max(width - array.shape[2], 0)
    left = missing // 2
    right = missing - left
    if not missing:
        return array, (0, 0)
    return np.pad(array, ((0, 0), (0, 0), (left, right)), mode="edge"), (left, right)


def pixel_hash(pixels: Pixels) -> PixelHash:
    """Return the hashes of the pixels, of their type and of their shape.

    The ordered hash finds copies of a volume; the unordered one also finds a copy whose B-scans
    were saved in another order.
    """
    head = f"{pixels.dtype}{pixels.shape[1:]}".encode()
    slices = [hashlib.sha256(np.ascontiguousarray(plane).tobytes()).digest() for plane in pixels]
    return PixelHash(
        hashlib.sha256(head + b"".join(slices)).hexdigest(),
        hashlib.sha256(head + b"".join(sorted(slices))).hexdigest(),
    )
