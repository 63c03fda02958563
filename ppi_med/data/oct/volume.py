"""The one form in which every reader hands over an OCT volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Laterality = Literal["OD", "OS"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

FROM_FILE = "file"
"""A provenance text that starts so says: the value was read from the source itself."""

MAX_BYTES = 4 * 2**30
"""A volume that would take more memory than this is refused before any is taken."""

DEFLATE_RATIO = 1032
"""The most that Deflate can shrink: more pixels than this per stored byte cannot be there."""


class OctReadError(ValueError):
    """A source that cannot be read as an OCT volume; the message names it and says why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{self.path.name}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self.path), self.reason))


class NotOctError(OctReadError):
    """A sound file of another kind (a fundus picture, a report): nothing to convert."""


class Spacing(NamedTuple):
    """Distance between neighbouring pixels in mm; `None` where nobody told it."""

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
    """An OCT volume as its source tells it, nothing added.

    Attributes:
        pixels: uint8 or uint16, `(n_bscans, depth, width)`; depth 0 is the vitreous side.
        reader: name of the reader.
        source: the file or folder it was read from.
        spacing: mm; `None` where the source does not tell.
        laterality: "OD", "OS" or `None`.
        subject_key: the patient's id as the source writes it. Never written out as it is.
        mask: a lesion mask of the same shape, if the source carries one.
        meta: what else the source tells, without names and dates of birth.
        provenance: for each value, where it came from.
        warnings: sentences for whoever converts the file.

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
    """Check the sizes that a header claims before memory is taken for them.

    Args:
        path: the file, for the message.
        shape: the claimed sizes.
        itemsize: bytes a pixel.
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
