"""Marks that a site's scanner burns into every B-scan, each at a fixed place.

A mark says nothing about the eye. If its presence agrees with the label it is a shortcut, which a
classifier takes and which fails at the next site.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ppi_med.errors import UsageError

Grey = NDArray[np.uint8]
Paint = Callable[[int, int], tuple[NDArray[np.bool_], Grey]]

# Places are parts of the depth and of the width. They lie above the retina or below the choroid,
# two samples and more away from the border, so that padding by the edge does not smear them.


def _logo(depth: int, width: int) -> tuple[NDArray[np.bool_], Grey]:
    """A bright corner mark at the upper left: a filled square in a frame."""
    where, value = _empty(depth, width)
    box = _box(depth, width, (0.04, 0.16), (0.03, 0.12))
    where[box] = True
    value[box] = 30
    _frame(value, box, 235)
    inner = _box(depth, width, (0.085, 0.115), (0.06, 0.09))
    value[inner] = 235
    return where, value


def _band(depth: int, width: int) -> tuple[NDArray[np.bool_], Grey]:
    """A dark band at the upper right, where the detector gives nothing."""
    where, value = _empty(depth, width)
    band = _box(depth, width, (0.06, 0.16), (0.72, 0.95))
    where[band] = True
    value[band] = 5  # not 0, which is taken for "not recorded"
    return where, value


def _line(depth: int, width: int) -> tuple[NDArray[np.bool_], Grey]:
    """A bright line in the vitreous, as of a reflection in the optics."""
    where, value = _empty(depth, width)
    line = _box(depth, width, (0.078, 0.11), (0.40, 0.66))
    where[line] = True
    value[line] = 190
    return where, value


def _ticks(depth: int, width: int) -> tuple[NDArray[np.bool_], Grey]:
    """A ruler at the lower right: ticks at equal steps on a base line."""
    where, value = _empty(depth, width)
    base = _box(depth, width, (0.945, 0.96), (0.70, 0.95))
    where[base] = True
    for left in np.linspace(0.70, 0.93, 6):
        where[_box(depth, width, (0.90, 0.96), (float(left), float(left) + 0.01))] = True
    value[where] = 215
    return where, value


MARKS: Mapping[str, Paint] = MappingProxyType(
    {"logo": _logo, "band": _band, "line": _line, "ticks": _ticks}
)
"""The marks by name: each gives, for a depth and width, where it is and its grey values."""


def mark(name: str, depth: int, width: int) -> tuple[NDArray[np.bool_], Grey]:
    """Return where a mark is on a B-scan and its grey values there.

    Returns:
        Two arrays (depth, width): True on the mark's pixels, and the grey values.

    Raises:
        UsageError: if there is no such mark.

    Examples:
        >>> where, value = mark("line", 64, 96)
        >>> where.shape, int(value[where].min())
        ((64, 96), 190)
    """
    if name not in MARKS:
        raise UsageError(f"Artefact {name!r} is unknown, expected one of {', '.join(MARKS)}.")
    return MARKS[name](depth, width)


def burn_in(images: Grey, name: str, rng: np.random.Generator | None = None) -> None:
    """Draw a mark, or another artefact, into every B-scan, in place.

    Args:
        images: (depth, width, B-scans), as in the file.
        name: one of `MARKS` or `FURTHER`.
        rng: random generator of what differs from volume to volume; the marks draw nothing.

    Raises:
        UsageError: if there is no such artefact.
    """
    if name in FURTHER:
        FURTHER[name](images, np.random.default_rng(0) if rng is None else rng)
        return
    where, value = mark(name, images.shape[0], images.shape[1])
    images[where] = value[where][:, None]


Alter = Callable[[Grey, np.random.Generator], None]


def _corner(images: Grey, rng: np.random.Generator) -> None:
    """A framed square in one of four corners, another one in each volume."""
    _stamp(images, (0.04, 0.84)[int(rng.integers(2))], (0.03, 0.88)[int(rng.integers(2))])


def _jitter(images: Grey, rng: np.random.Generator) -> None:
    """The framed square at the upper left, moved by up to 8 pixels in each volume."""
    down, right = rng.integers(0, 9, size=2)
    _stamp(images, 0.04 + down / images.shape[0], 0.03 + right / images.shape[1])


def _retina(images: Grey, rng: np.random.Generator) -> None:
    """A bright square over the retina, where the eye itself is."""
    box = _box(images.shape[0], images.shape[1], (0.42, 0.52), (0.45, 0.53))
    images[box] = 225


def _stamp(images: Grey, top: float, left: float) -> None:
    depth, width = images.shape[:2]
    value = np.full((depth, width), 30, dtype=np.uint8)
    box = _box(depth, width, (top, top + 0.12), (left, left + 0.09))
    _frame(value, box, 235)
    images[box] = value[box][..., None]


def _speckle(images: Grey, rng: np.random.Generator) -> None:
    """Smoother speckle, as where a scanner averages more frames."""
    smooth = gaussian_filter(images.astype(np.float32), (0.6, 0.6, 0.0), mode="nearest")
    recorded = images > 0
    images[recorded] = np.rint(smooth)[recorded].astype(np.uint8)


def _gain(images: Grey, rng: np.random.Generator) -> None:
    """Another grey curve: gamma 1.35."""
    table = np.rint(255 * (np.arange(256) / 255) ** 1.35).astype(np.uint8)
    images[...] = table[images]


def _watermark(images: Grey, rng: np.random.Generator) -> None:
    """Faint stripes over the whole B-scan, the same in all."""
    rows, columns = np.indices(images.shape[:2])
    wave = 6 * np.sin(2 * np.pi * (rows + 2 * columns) / 9)
    shifted = images.astype(np.float32) + wave[..., None].astype(np.float32)
    images[...] = np.clip(np.rint(shifted), 1, 255).astype(np.uint8)


def _border(images: Grey, rng: np.random.Generator) -> None:
    """A black margin at the left."""
    images[:, : max(1, round(0.04 * images.shape[1]))] = 5


def _scan_line(images: Grey, rng: np.random.Generator) -> None:
    """A bright line over the whole width, at another depth in each volume."""
    images[int(rng.integers(2, images.shape[0] - 2))] = 200


def _every_scan(images: Grey, rng: np.random.Generator) -> None:
    """The framed square, at another place in each B-scan."""
    for scan in range(images.shape[2]):
        _stamp(images[..., scan : scan + 1], *(0.85 * rng.random(2)))


def _some_scans(images: Grey, rng: np.random.Generator) -> None:
    """The framed square at the upper left, in half of the B-scans."""
    for scan in np.flatnonzero(rng.random(images.shape[2]) < 0.5):
        _stamp(images[..., scan : scan + 1], 0.04, 0.03)


def _noise(images: Grey, rng: np.random.Generator) -> None:
    """More noise of the detector."""
    noisy = images + rng.normal(0, 8, images.shape)
    images[...] = np.clip(np.rint(noisy), 1, 255).astype(np.uint8)


def _compression(images: Grey, rng: np.random.Generator) -> None:
    """B-scans that were stored as JPEG of quality 30."""
    from PIL import Image

    for scan in range(images.shape[2]):
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(images[..., scan])).save(stream, "JPEG", quality=30)
        images[..., scan] = np.asarray(Image.open(stream))


def _vignette(images: Grey, rng: np.random.Generator) -> None:
    """Darker towards the corners."""
    rows, columns = (np.linspace(-1, 1, count) for count in images.shape[:2])
    light = 1 - 0.175 * (rows[:, None] ** 2 + columns**2)
    images[...] = np.rint(images * light[..., None]).astype(np.uint8)


def _mirror(images: Grey, rng: np.random.Generator) -> None:
    """Left and right exchanged."""
    images[...] = images[:, ::-1].copy()


FURTHER: Mapping[str, Alter] = MappingProxyType(
    {
        "corner": _corner,
        "jitter": _jitter,
        "retina": _retina,
        "speckle": _speckle,
        "gain": _gain,
        "watermark": _watermark,
        "border": _border,
        "scan_line": _scan_line,
        "every_scan": _every_scan,
        "some_scans": _some_scans,
        "noise": _noise,
        "compression": _compression,
        "vignette": _vignette,
        "mirror": _mirror,
    }
)
"""Further artefacts, for experiments: moving, over the eye, or without a place."""


def _empty(depth: int, width: int) -> tuple[NDArray[np.bool_], Grey]:
    return np.zeros((depth, width), dtype=bool), np.zeros((depth, width), dtype=np.uint8)


def _box(
    depth: int, width: int, rows: tuple[float, float], columns: tuple[float, float]
) -> tuple[slice, slice]:
    """Return the pixels between two parts of the depth and of the width, one at least."""
    return _between(depth, *rows), _between(width, *columns)


def _between(count: int, start: float, stop: float) -> slice:
    first = round(start * count)
    return slice(first, max(first + 1, round(stop * count)))


def _frame(value: Grey, box: tuple[slice, slice], grey: int) -> None:
    """Draw the outline of a box; its thickness grows with the picture."""
    rows, columns = box
    down = max(1, (rows.stop - rows.start) // 8)
    across = max(1, (columns.stop - columns.start) // 8)
    value[rows.start : rows.start + down, columns] = grey
    value[rows.stop - down : rows.stop, columns] = grey
    value[rows, columns.start : columns.start + across] = grey
    value[rows, columns.stop - across : columns.stop] = grey
