"""Whether the pixels of a file are all there, told from the file's structure without decoding."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from ppi_med.data.dicom.deflated import DEFLATED

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
        stream: the file, at the element where reading stopped: that of the pixels, or the end.
        header: pydicom's data set without the pixels.
        syntax: transfer syntax.
        size: bytes of the file.

    Returns:
        A reason in words, naming bytes; "" if nothing is wrong as far as can be seen.
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
    if length == _UNDEFINED:
        return _fragments_problem(stream, start, size, header)
    have = min(length, size - start)
    return _length_problem(have, header, _PIXEL_BITS[element])


def expected_bytes(header: Any, bits: int | None = None) -> int:
    """Return the bytes of an image that is not compressed.

    Args:
        header: pydicom's data set.
        bits: of a sample; default `BitsAllocated`.
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


def _fragments_problem(stream: BinaryIO, start: int, size: int, header: Any) -> str:
    """Walk over the fragments of compressed pixels: one short read each."""
    place, fragments = start, -1  # the first item is the table of offsets
    while True:
        if place + 8 > size:
            return CUT_OFF  # without the mark of the end: pydicom reads nothing of such a file
        stream.seek(place)
        group, element, length = struct.unpack("<HHI", stream.read(8))
        if (group, element) == _END:
            break
        if (group, element) != _ITEM or place + 8 + length > size:
            return CUT_OFF
        fragments += 1
        place += 8 + length
    frames = int(header.get("NumberOfFrames") or 1)
    if fragments < frames:
        return f"pixel data cut off: {max(fragments, 0)} of {frames} frames"
    return ""


def _deflated_problem(stream: BinaryIO, header: Any) -> str:
    """Inflate the whole file: a deflated one cannot be looked into at one place."""
    import pydicom

    stream.seek(0)
    full = pydicom.dcmread(stream)
    if "PixelData" not in full:
        return NO_PIXELS
    return _length_problem(len(full.PixelData), full, None)
