"""The common form of an OCT volume from every reader, and the common checks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Laterality = Literal["OD", "OS"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

FROM_FILE = "file"
"""Prefix of a provenance text for a value read from the source itself."""

MAX_BYTES = 4 * 2**30
"""A volume that would take more memory than this is refused before any is allocated."""

SMALLEST_MM = 0.0005
PLAUSIBLE_MM = {"lateral": 0.5, "axial": 0.2, "between": 2.5}
"""Spacings from `SMALLEST_MM` up to below these are possible; others are often in a wrong unit."""

DEFLATE_RATIO = 1032
"""Largest ratio of Deflate: a file cannot hold more pixels than this per stored byte."""


class OctReadError(ValueError):
    """A source that cannot be read as an OCT volume; the message names it and says why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{self.path.name}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self.path), self.reason))


class NotOctError(OctReadError):
    """A valid file of another kind (a fundus picture, a report): nothing to convert."""


class Spacing(NamedTuple):
    """Distance between neighbouring pixels in mm; `None` where it is unknown."""

    lateral: float | None = None
    axial: float | None = None
    between: float | None = None

    @property
    def known(self) -> bool:
        """Whether all three are known."""
        return None not in self

    def missing(self) -> tuple[str, ...]:
        """Return the names of the unknown ones."""
        return tuple(name for name, value in zip(self._fields, self, strict=True) if value is None)


@dataclass
class OctVolume:
    """An OCT volume as its source describes it, nothing added.

    Attributes:
        pixels: uint8 or uint16, `(n_bscans, depth, width)`; depth 0 is the vitreous side.
        reader: name of the reader.
        source: its file or folder.
        spacing: mm; `None` where the source does not say.
        laterality: "OD", "OS" or `None`.
        subject_key: the patient's id in the source. It is never written out as it is.
        mask: a lesion mask of the same shape, if the source has one.
        meta: further facts from the source, without names and dates of birth.
        provenance: for each value, where it came from.
        warnings: sentences for the user.

    Raises:
        ValueError: for pixels that are not three-dimensional uint8 or uint16, or an empty axis.

    Examples:
        >>> volume = OctVolume(np.zeros((2, 4, 3), np.uint8), reader="example", source=Path("a"))
        >>> volume.spacing.known, volume.laterality
        (False, None)
    """

    pixels: Pixels
    reader: str
    source: Path
    spacing: Spacing = Spacing()
    laterality: Laterality | None = None
    subject_key: str | None = field(default=None, repr=False)
    mask: NDArray[np.uint8] | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or 0 in self.pixels.shape:
            raise OctReadError(
                self.source,
                f"the pixels have the shape {self.pixels.shape}, expected (B-scans, depth, width) "
                "with no empty axis.",
            )
        if self.pixels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise OctReadError(
                self.source, f"the pixels are {self.pixels.dtype}, expected uint8 or uint16."
            )
        if self.mask is not None and self.mask.shape != self.pixels.shape:
            raise OctReadError(
                self.source,
                f"the mask has the shape {self.mask.shape}, expected the volume's "
                f"{self.pixels.shape}.",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(n_bscans, depth, width)`."""
        n_bscans, depth, width = self.pixels.shape
        return n_bscans, depth, width


def check_size(path: Path, shape: tuple[int, ...], itemsize: int, stored: int | None = None) -> int:
    """Check the sizes that a header claims before memory is allocated.

    Args:
        path: the file, for the message.
        shape: the claimed sizes.
        itemsize: bytes per pixel.
        stored: bytes in the file that must hold them uncompressed, or `None` for compressed ones.

    Returns:
        The number of bytes the pixels take.

    Raises:
        OctReadError: if a size is not positive, the whole is beyond `MAX_BYTES`, or more than
            `stored`.
    """
    if any(size <= 0 for size in shape):
        raise OctReadError(path, f"the header claims the sizes {shape}, expected positive ones.")
    total = itemsize
    for size in shape:
        total *= size
    if total > MAX_BYTES:
        raise OctReadError(
            path,
            f"the header claims {shape} pixels, which take {total / 2**30:.1f} GiB; the limit is "
            f"{MAX_BYTES / 2**30:.0f} GiB.",
        )
    if stored is not None and total > stored:
        raise OctReadError(
            path,
            f"the header claims {shape} pixels ({total} bytes) but the file holds only {stored}: "
            "it is truncated or not of this format.",
        )
    return total


def check_range(path: Path, place: int, length: int, size: int, what: str) -> None:
    """Check that a file holds the bytes that its header points to, before going there.

    Raises:
        OctReadError: if they begin or end outside the file.
    """
    if place < 0 or length < 0 or place + length > size:
        raise OctReadError(
            path,
            f"truncated or damaged: {what} should take {length} bytes from byte {place} on, but "
            f"the file has {size}.",
        )


def read_range(path: Path, stream: BinaryIO, place: int, length: int, what: str) -> bytes:
    """Return bytes of a file; see `check_range`."""
    check_range(path, place, length, path.stat().st_size, what)
    stream.seek(place)
    return stream.read(length)


def implausible(name: str, value: float) -> str:
    """Return why a spacing cannot be true, "" if it can.

    It can from `SMALLEST_MM` up to below its number in `PLAUSIBLE_MM`: zero, negative, infinite
    values and NaN fall out as micrometres do.

    Examples:
        >>> implausible("lateral", 11.7)
        'the lateral spacing of 11.7 mm is implausible, expected 0.0005 to 0.5 mm'
    """
    if SMALLEST_MM <= value < PLAUSIBLE_MM[name]:
        return ""
    return (
        f"the {name} spacing of {value:g} mm is implausible, expected {SMALLEST_MM:g} to "
        f"{PLAUSIBLE_MM[name]:g} mm"
    )


def plausible_spacing(spacing: Spacing) -> tuple[Spacing, list[str]]:
    """Return a file's spacing without what cannot be true, and a sentence for each of these.

    Exactly 1 is what programs write where they do not know.

    Examples:
        >>> plausible_spacing(Spacing(lateral=11.7, axial=0.0039, between=1.0))[0]
        Spacing(lateral=None, axial=0.0039, between=None)
    """
    kept: dict[str, float | None] = {}
    reasons = []
    for name, value in spacing._asdict().items():
        why = "" if value is None else implausible(name, value)
        if value == 1 and not why:
            why = f"the {name} spacing of exactly 1 mm often stands for an unknown one"
        kept[name] = None if why else value
        if why:
            reasons.append(f"{why}: left unknown.")
    return Spacing(**kept), reasons


def fault_of(error: BaseException) -> str:
    r"""Return why a file failed, as one line; raise again what is not the file's fault.

    Whatever a library raises while it reads one file must not end the work on others: an exit or a
    panic of a library, which are no `Exception`, count too. Only a stop by the user goes on.

    Raises:
        KeyboardInterrupt: where it is one.

    Examples:
        >>> fault_of(RuntimeError("no\nmore")), fault_of(MemoryError())
        ('RuntimeError: no more', 'not enough memory to read it.')
    """
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        raise error
    reason = getattr(error, "reason", None)
    if isinstance(error, OctReadError) and isinstance(reason, str):
        return reason
    if isinstance(error, MemoryError):
        return "not enough memory to read it."
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}."
    return f"{type(error).__name__}: {library_text(error)}"


def library_text(error: BaseException | Warning) -> str:
    """Return the message of a library on one line, without the quoted values of the file.

    A header's free text, such as a patient's name, is what parsers like to quote.

    Examples:
        >>> library_text(ValueError("could not convert string to float: 'Doe^Jane'"))
        "could not convert string to float: '...'"
    """
    text = " ".join(str(error).split()) or "no message"
    return re.sub(r"(?<!\w)(['\"]).*?\1(?!\w)", r"\1...\1", text)[:200]


@contextmanager
def library_warnings() -> Iterator[list[str]]:
    """Catch what libraries warn of while a file is read; the sentences can then go with the file.

    Yields:
        The sentences, each once; it is filled on leaving.
    """
    sentences: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield sentences
    for warning in caught:
        text = f"{warning.category.__name__}: {library_text(warning.message)}"  # type: ignore[arg-type]
        if text not in sentences:
            sentences.append(text)


def normal_laterality(text: str | None) -> Laterality | None:
    """Return "OD" or "OS" for the usual spellings, `None` for anything else.

    Examples:
        >>> normal_laterality("R"), normal_laterality("left"), normal_laterality("")
        ('OD', 'OS', None)
    """
    word = (text or "").strip("\0 \t\r\n").casefold()
    if word in ("od", "r", "re", "right"):
        return "OD"
    if word in ("os", "l", "le", "left"):
        return "OS"
    return None


TOLERANCE_MM = 0.0015
"""Vendors write positions with three decimals: a step read from two of them is off by 0.001."""


def between_bscans(
    starts: Sequence[Sequence[float]],
    ends: Sequence[Sequence[float]],
    *,
    tolerance: float = TOLERANCE_MM,
) -> tuple[float | None, str]:
    """Return the distance between neighbouring B-scans in mm, or why there is none.

    Args:
        starts: position of the first A-scan of each B-scan, 2 or 3 coordinates in mm.
        ends: position of the last one.
        tolerance: in mm, for directions and steps.

    Returns:
        The distance and "", or `None` and a sentence that names the B-scans (counted from 1).
        One B-scan has no distance and needs no sentence.

    Examples:
        >>> between_bscans([(0, 6), (0, 5.97), (0, 5.94)], [(5, 6), (5, 5.97), (5, 5.94)])
        (0.03, '')
        >>> between_bscans([(0, 6), (0, 5.97), (0, 5.90)], [(5, 6), (5, 5.97), (5, 5.90)])[0]
    """
    first = np.asarray(starts, np.float64)
    last = np.asarray(ends, np.float64)
    if len(first) < 2:
        return None, ""
    along = last - first
    length = np.linalg.norm(along, axis=1)
    if not np.isfinite(along).all() or length.min() <= tolerance:
        return None, "B-scans without a start and an end: their distance stays unknown."
    turned = np.flatnonzero(np.abs(along - along[0]).max(axis=1) > 2 * tolerance)
    if turned.size:
        return None, (
            f"B-scan {turned[0] + 1} is not parallel to B-scan 1 or not as long: "
            "the distance between B-scans stays unknown."
        )
    direction = along[0] / length[0]
    steps = np.diff(first, axis=0)
    across = steps - np.outer(steps @ direction, direction)
    mean = across.mean(axis=0)
    distance = float(np.linalg.norm(mean))
    if distance <= tolerance:
        return None, "B-scans at one and the same place: their distance stays unknown."
    uneven = np.flatnonzero(np.abs(across - mean).max(axis=1) > tolerance)
    if uneven.size:
        number = int(uneven[0])
        return None, (
            f"uneven steps: {np.linalg.norm(across[number]):.4f} mm from B-scan {number + 1} to "
            f"{number + 2}, {distance:.4f} mm on average ({uneven.size} steps differ by more than "
            f"{tolerance} mm): the distance between B-scans stays unknown."
        )
    return float(f"{distance:.9g}"), ""
