"""B-scans and maps as pictures in base64, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH = 1000
_GAP = 0.15


def bars(
    values: NDArray[np.floating],
    *,
    top: float,
    height: int,
    kind: str,
    label: str,
    unit: str,
    word: str = "B-scan",
) -> str:
    """Return bars that fill a box of any proportions.

    Args:
        values: one per B-scan, not negative.
        top: the value that fills the height.
        height: height of the box.
        kind: class of the picture, for its colour.
        label: description for screen readers.
        unit: name of a value in the bar's own text.
        word: word for a slice.

    Returns:
        The `svg` element. Each bar is a `rect.bar` with the number of its B-scan, from 0, in
        `data-slice`; `line.here` marks the current one.
    """
    step = WIDTH / len(values)
    parts = [
        _bar(number, float(value), step, height, top, f"{word} {number + 1}: {unit}")
        for number, value in enumerate(values)
    ]
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{"".join(parts)}'
        f'<line class="here" x1="0" x2="0" y1="0" y2="{height}"></line></svg>'
    )


def level(value: float, top: float, height: int) -> str:
    """Return a dashed line across a plot of `bars`, as an element for it."""
    y = height * (1 - min(max(value / top, 0.0), 1.0))
    return f'<line class="level" x1="0" x2="{WIDTH}" y1="{y:.2f}" y2="{y:.2f}"></line>'


def with_inside(svg: str, elements: Sequence[str]) -> str:
    """Return the picture with further elements drawn over its bars."""
    return svg.removesuffix("</svg>") + "".join(elements) + "</svg>"


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the outline of a mask `(H, W)` as an SVG path; a pixel is 1 x 1, the first at 0, 0.

    Examples:
        >>> outline(np.array([[False, True, True]]))
        'M1 0h2M1 1h2M1 0v1M3 0v1'
    """
    padded = np.pad(mask, 1).astype(np.int8)
    across, down = np.diff(padded, axis=0) != 0, np.diff(padded, axis=1).T != 0
    flat = [f"M{start - 1} {row}h{length}" for row, start, length in _runs(across)]
    steep = [f"M{column} {start - 1}v{length}" for column, start, length in _runs(down)]
    return "".join(flat + steep)


def _runs(lines: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Yield line, start and length of each run of True along the second axis."""
    for number, line in enumerate(lines):
        edges = np.flatnonzero(np.diff(np.pad(line, 1).astype(np.int8)))
        for start, end in edges.reshape(-1, 2).tolist():
            yield number, start, end - start


def percent(value: float) -> str:
    """Return a probability in percent that never claims to be certain.

    Examples:
        >>> percent(0.8734), percent(1.0), percent(1e-9)
        ('87.3 %', 'over 99.9 %', 'under 0.1 %')
    """
    if value > 0.999:
        return "over 99.9 %"
    if value < 0.001:
        return "under 0.1 %"
    return f"{100 * value:.1f} %"


def _bar(number: int, value: float, step: float, height: int, top: float, text: str) -> str:
    tall = height * min(max(value / top, 0.0), 1.0) if top > 0 else 0.0
    return (
        f'<rect class="bar" data-slice="{number}" x="{(number + _GAP / 2) * step:.2f}" '
        f'y="{height - tall:.2f}" width="{step * (1 - _GAP):.2f}" height="{tall:.2f}">'
        f"<title>{text} {100 * value:.2g} %</title></rect>"
    )


MAX_WIDTH = 1024
MAX_MAP = 160
SMOOTHING = 1.0
"""Deviation in pixels of the map's grid."""
_BASE64 = 4 / 3
# From fine to coarse: quality of the compression and largest width.
_STEPS = (
    *((95, MAX_WIDTH), (88, MAX_WIDTH), (80, MAX_WIDTH), (70, MAX_WIDTH)),
    *((60, 768), (50, 640), (40, 512), (30, 384)),
)
_TRIED = 8
_PERCENTILE = 99.5


@dataclass(frozen=True)
class Pictures:
    """Encoded B-scans.

    Attributes:
        data: JPEG in base64, one per B-scan.
        size: (depth, width) of the pictures, which may be smaller than the B-scans.
        quality: quality of the compression, 1 to 100.
    """

    data: list[str]
    size: tuple[int, int]
    quality: int


@dataclass(frozen=True)
class Maps:
    """Encoded maps: 128 is zero, 255 and 1 are plus and minus the slice's own largest value.

    Attributes:
        data: PNG in base64, one per slice.
        peaks: the slices' largest absolute values, as a part of the volume's scale; that of the
            loudest slices is above 1, since the scale is a percentile.
        size: (depth, width) of the pictures.
    """

    data: list[str]
    peaks: list[float]
    size: tuple[int, int]


def encode_slices(pixels: NDArray[np.uint8], max_bytes: int) -> Pictures:
    """Encode B-scans with the best quality that `max_bytes` allows.

    The quality is chosen on some of the slices, so that all are encoded once.

    Args:
        pixels: `(S, H, W)`.
        max_bytes: largest size in bytes of all pictures in base64.
    """
    some = pixels[:: max(1, len(pixels) // _TRIED)]
    for quality, width in _STEPS:
        size = _size(pixels.shape[1:], width)
        sample = sum(len(_lossy(plane, size, quality)) for plane in some)
        if sample / len(some) * len(pixels) * _BASE64 <= max_bytes:
            break
    data = [_base64(_lossy(plane, size, quality)) for plane in pixels]
    return Pictures(data, size, quality)


def encode_maps(saliency: NDArray[np.float32], grid: tuple[int, int] | None = None) -> Maps:
    """Encode maps, smoothed lightly, at no more than `MAX_MAP` pixels per side.

    The maps are averaged to the grid on which they were computed and smoothed there with a Gaussian
    of deviation `SMOOTHING`, so that single noisy pixels of both signs cancel. The scale of the
    volume is that of its strongest slice, see `loudness`.

    Args:
        saliency: `(S, H, W)`.
        grid: (depth, width) on which they were computed; default that of the maps.
    """
    size = _map_size(saliency.shape[1:], grid)
    small = np.stack([smoothed(_area(plane, size)) for plane in saliency])
    scale = max(loudness(plane) for plane in small) or 1.0
    data, peaks = [], []
    for plane in small:
        peak = float(np.abs(plane).max())
        levels = plane / peak if peak > 0 else np.zeros_like(plane)
        data.append(_base64(_coded(levels)))
        peaks.append(peak / scale)
    return Maps(data, peaks, size)


def loudness(values: NDArray[np.floating]) -> float:
    """Return the 99.5th percentile of the absolute values."""
    return float(np.percentile(np.abs(values), _PERCENTILE))


def smoothed(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth a map with a Gaussian of `SMOOTHING` pixels, the edges mirrored: its sum stays."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(plane, SMOOTHING, mode="reflect"), np.float32)


def en_face(pixels: NDArray[np.uint8]) -> str:
    """Return the mean over depth as a PNG, one row per B-scan, the contrast stretched."""
    mean = np.stack([plane.mean(axis=0) for plane in pixels])
    low, high = np.percentile(mean, (1, 99.5))
    grey = (mean - low) / max(float(high - low), 1.0)
    return _base64(_png((np.clip(grey, 0, 1) * 255).astype(np.uint8)))


def en_face_map(saliency: NDArray[np.float32]) -> str:
    """Return the map's sum over depth as a PNG, coded as in `Maps`, the loudest in full colour."""
    columns = np.stack([plane.sum(axis=0, dtype=np.float64) for plane in saliency])
    width = min(columns.shape[1], MAX_MAP)
    small = _area(columns.astype(np.float32), (columns.shape[0], width))
    return _base64(_coded(np.clip(small / (loudness(small) or 1.0), -1, 1)))


def _area(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if plane.shape == size:
        return plane
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX), np.float32)


def _size(shape: tuple[int, ...], max_width: int) -> tuple[int, int]:
    depth, width = shape
    if width <= max_width:
        return depth, width
    return max(1, round(depth * max_width / width)), max_width


def _map_size(shape: tuple[int, ...], grid: tuple[int, int] | None) -> tuple[int, int]:
    rows, columns = grid or (MAX_MAP, MAX_MAP)
    return min(shape[0], rows, MAX_MAP), min(shape[1], columns, MAX_MAP)


def _coded(levels: NDArray[np.floating]) -> bytes:
    return _png((128 + np.rint(levels * 127)).astype(np.uint8))


def _lossy(plane: NDArray[np.uint8], size: tuple[int, int], quality: int) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(plane))
    if plane.shape != size:
        image = image.resize((size[1], size[0]), Image.Resampling.BOX)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def _png(plane: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
