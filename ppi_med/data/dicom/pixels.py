"""The pixels of one file: checking that they are complete without decoding, and decoding them.

An error says why pixels cannot be decoded. A deflated file, which pydicom inflates whole, is
measured first.
"""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.tree import ArchiveError, DicomFile, Opener
from ppi_med.data.dicom.values import real_values, stored_values

# The segments of JPEG and JPEG-LS that state the precision.
_FRAME_STARTS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), 0xF7)
_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class PixelError(ValueError):
    """Pixels that cannot be read; `reason` says why, without the file's name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}.")
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self).partition(": ")[0], self.reason)


def read_pixels(base: str | Path, file: DicomFile) -> NDArray[Any]:
    """Return the stored values of a file, little-endian.

    Args:
        base: the folder that `file.path` is relative to.
        file: a file or an entry of an archive.

    Returns:
        `(rows, columns)`, `(frames, rows, columns)`, or with the samples last.

    Raises:
        PixelError: if they are missing, cut off, damaged, or in a transfer syntax that no
            installed decoder reads.
    """
    return read_slice(base, file).stored


@dataclass(frozen=True)
class Slice:
    """A decoded file.

    Attributes:
        stored: values as stored, see `read_pixels`.
        padding: bool, of the same shape: pixels that the file declares to be padding.
        dataset: pydicom's data set.
        sha256: SHA-256 hash of the file.
    """

    stored: NDArray[Any]
    padding: NDArray[np.bool_]
    dataset: Any
    sha256: str

    def values(self, *, any_unit: bool = False) -> NDArray[Any]:
        """Return Hounsfield units, or raise; see `values.real_values`."""
        return real_values(self.stored, self.padding, self.dataset, any_unit=any_unit)


def read_slice(base: str | Path, file: DicomFile) -> Slice:
    """Read and decode a file, opening it once; see `read_pixels`."""
    import pydicom

    try:
        with Opener(base) as opener, opener.open(file) as source, quiet():
            content = source.read()
            stream = io.BytesIO(content)
            check_inflated_size(stream)
            head = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            syntax = str(getattr(head, "file_meta", {}).get("TransferSyntaxUID", ""))
            no_rows = "no pixel data"
            size = len(content)
            problem = pixel_problem(stream, head, syntax, size) if "Rows" in head else no_rows
            if problem:
                raise PixelError(file.name, problem)
            stream.seek(0)
            dataset = pydicom.dcmread(stream, force=True)
            stored, padding = _decoded(dataset, file, syntax)
            return Slice(stored, padding, dataset, hashlib.sha256(content).hexdigest())
    except PixelError:
        raise
    except InflatedSizeError as error:
        raise PixelError(file.name, str(error)) from error
    except (OSError, ArchiveError) as error:
        raise PixelError(file.name, f"cannot be read ({type(error).__name__})") from error
    except Exception as error:  # damaged files can raise anything in decoders and parsers
        reason = f"the pixels are damaged ({type(error).__name__})"
        raise PixelError(file.name, reason) from error


def _decoded(dataset: Any, file: DicomFile, syntax: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if not any(name in dataset for name in _ELEMENTS):
        raise PixelError(file.name, "no pixel data")
    if not syntax:
        # Without file meta information the group of the transfer syntax is missing as well.
        from pydicom.uid import ImplicitVRLittleEndian

        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    problem = syntax_problem(syntax)
    if problem:
        raise PixelError(file.name, problem)
    # pydicom clears unused bits only in some transfer syntaxes, and ignores HighBit.
    dataset.pixel_array_options(correct_unused_bits=False)
    pixels = dataset.pixel_array
    raw = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False))
    return stored_values(raw, dataset, _precision(dataset))


@lru_cache(maxsize=64)
def syntax_problem(syntax: str) -> str:
    """Return why nothing of a transfer syntax can be decoded here, or "".

    Args:
        syntax: its UID; "" means little endian with implicit types.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    if not syntax or (uid.is_transfer_syntax and not uid.is_compressed):
        return ""
    try:
        if get_decoder(uid).is_available:
            return ""
    except NotImplementedError:
        shown = syntax if syntax.replace(".", "").isdigit() else "without a valid UID"
        return f"transfer syntax {shown} not supported"
    advice = "its decoder is in the extra 'dicom' (pip install 'ppi_med[dicom]')"
    return f"transfer syntax {syntax} not supported: {advice}"


def _precision(dataset: Any) -> int | None:
    """Return the bits of a sample that a JPEG stream states, None for other formats."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return None
    from pydicom.encaps import get_frame

    frames = int(dataset.get("NumberOfFrames") or 1)
    stream = get_frame(dataset.PixelData, 0, number_of_frames=frames)
    if stream[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: the size segment comes first
        return (stream[42] & 0x7F) + 1
    place = 2
    while stream[:2] == b"\xff\xd8" and stream[place : place + 1] == b"\xff":
        if stream[place + 1] in _FRAME_STARTS:
            return stream[place + 4]
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


NO_PIXELS = "no pixel data"
CUT_OFF = "pixel data cut off: the file ends inside the last frame"

_IMPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_PIXEL_BITS = {0x0008: 32, 0x0009: 64, 0x0010: None}
_LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN", b"OL", b"OV")
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF


def pixel_problem(stream: BinaryIO, header: Any, syntax: str, size: int) -> str:
    """Return why the pixels of a file cannot be complete, or "".

    Args:
        stream: the file, at the element where reading stopped: the pixels, or the end.
        header: pydicom's data set without the pixels.
        syntax: transfer syntax.
        size: bytes of the file.

    Returns:
        A reason in words, naming bytes; "" if no fault is visible.
    """
    if syntax == DEFLATED:
        return _deflated_problem(stream, header)
    order = ">" if syntax == _BIG else "<"
    head = stream.read(12)
    if len(head) < 8:
        return NO_PIXELS
    group, element = struct.unpack(order + "HH", head[:4])
    if group != 0x7FE0 or element not in _PIXEL_BITS:
        return NO_PIXELS
    explicit = head[4:6] in _LONG_VRS and syntax != _IMPLICIT
    start = stream.tell() - (0 if explicit else len(head) - 8)
    (length,) = struct.unpack(order + "I", head[8:12] if explicit else head[4:8])
    if _in_fragments(syntax) not in (None, length == _UNDEFINED):
        return "pixel data not in the form of its transfer syntax"
    if length == _UNDEFINED:
        return _fragments_problem(stream, start, size, header, syntax)
    have = min(length, size - start)
    return _length_problem(have, header, _PIXEL_BITS[element])


def expected_bytes(header: Any, bits: int | None = None) -> int:
    """Return the bytes of an image that is not compressed.

    Args:
        header: pydicom's data set.
        bits: bits of a sample; default `BitsAllocated`.
    """
    samples = int(header.get("SamplesPerPixel") or 1)
    pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
    if samples == 3 and str(header.get("PhotometricInterpretation", "")).startswith("YBR_FULL_422"):
        samples = 2
    return (pixels * samples * (bits or int(header.get("BitsAllocated") or 8)) + 7) // 8


def _length_problem(have: int, header: Any, bits: int | None) -> str:
    expected = expected_bytes(header, bits)
    if have < expected:
        return f"pixel data shorter than rows x columns: {have} of {expected} bytes"
    return ""


def _in_fragments(syntax: str) -> bool | None:
    """Say whether a transfer syntax writes pixels in fragments; None if it is unknown."""
    from pydicom.uid import UID

    uid = UID(syntax or _IMPLICIT)
    return uid.is_compressed if uid.is_transfer_syntax and not uid.is_private else None


def _fragments_problem(stream: BinaryIO, start: int, size: int, header: Any, syntax: str) -> str:
    """Walk over the fragments of compressed pixels: one short read each."""
    place, fragments = start, -1  # the first item is the table of offsets
    while True:
        if place + 8 > size:
            return CUT_OFF  # without an end mark pydicom reads nothing from such a file
        stream.seek(place)
        group, element, length = struct.unpack("<HHI", stream.read(8))
        if (group, element) == _END:
            break
        if (group, element) != _ITEM or place + 8 + length > size:
            return CUT_OFF
        fragments += 1
        if fragments == 1 and not stream.read(4).startswith(_starts(syntax)):
            return "pixel data of another compression than its transfer syntax"
        place += 8 + length
    frames = int(header.get("NumberOfFrames") or 1)
    if fragments < frames:
        return f"pixel data cut off: {max(fragments, 0)} of {frames} frames"
    return ""


def _starts(syntax: str) -> tuple[bytes, ...]:
    """Return the bytes with which a compressed frame of this transfer syntax may begin."""
    if syntax == "1.2.840.10008.1.2.5":  # RLE: the number of its segments
        return tuple(struct.pack("<I", number) for number in range(1, 16))
    family = syntax.removeprefix("1.2.840.10008.1.2.4.")
    if family.startswith(("5", "7", "8")):
        return (b"\xff\xd8",)
    return (b"\xff\x4f", b"\0\0\0\x0c") if family.startswith(("9", "20")) else (b"",)


def _deflated_problem(stream: BinaryIO, header: Any) -> str:
    """Inflate the whole file: a deflated file cannot be read at one place."""
    import pydicom

    stream.seek(0)
    full = pydicom.dcmread(stream)
    if "PixelData" not in full:
        return NO_PIXELS
    return _length_problem(len(full.PixelData), full, None)


DEFLATED = "1.2.840.10008.1.2.1.99"
"""The transfer syntax."""

MAX_INFLATED_BYTES = 2**29
"""A file that inflates to more is refused: a kilobyte may become a megabyte."""

_INFLATED_STEP = 2**20
_HEAD = 2048
_META_SHORT_VRS, _META_LONG_VRS = (b"UI", b"UL", b"SH", b"AE"), (b"OB",)
"""Value types in the file meta information, by the size of their length."""


class InflatedSizeError(ValueError):
    """A file that inflates to too much; the message has nothing of its content."""


def check_inflated_size(stream: BinaryIO) -> None:
    """Refuse a deflated file that inflates to too much; others are not read.

    Args:
        stream: a DICOM file at its beginning; its position is restored.

    Raises:
        InflatedSizeError: if it inflates to more than `MAX_INFLATED_BYTES`.
    """
    head = stream.read(_HEAD)
    stream.seek(0)
    if _plainly_another(head):
        return
    # The same reader as in pydicom's dcmread, so both agree on what is deflated.
    from pydicom.filereader import _read_file_meta_info, read_preamble

    read_preamble(stream, force=True)
    if str(_read_file_meta_info(stream).get("TransferSyntaxUID", "")) == DEFLATED:
        _count(stream)
    stream.seek(0)


def _plainly_another(head: bytes) -> bool:
    """Recognise the usual file by its first bytes: pydicom needs a quarter of a header's time."""
    place = 132 if head[128:132] == b"DICM" else 0
    while place + 12 <= len(head):
        group, _, vr, length = struct.unpack_from("<HH2sH", head, place)
        if group != 2:
            return True
        if vr in _META_LONG_VRS:
            (length,) = struct.unpack_from("<I", head, place + 8)
            place += 4
        elif vr not in _META_SHORT_VRS:
            return False
        if head[place + 8 : place + 8 + length].startswith(DEFLATED.encode()):
            return False
        place += 8 + length
    return False


def _count(stream: BinaryIO) -> None:
    """Inflate piece by piece without keeping any; damage is left to the reader."""
    inflate, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while piece := stream.read(_INFLATED_STEP):
        while piece and not inflate.eof:
            try:
                total += len(inflate.decompress(piece, _INFLATED_STEP))
            except zlib.error:
                return
            if total > MAX_INFLATED_BYTES:
                raise InflatedSizeError(f"more than {MAX_INFLATED_BYTES} bytes inflated: refused")
            piece = inflate.unconsumed_tail


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress pydicom's warnings and log lines while a file is read."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
