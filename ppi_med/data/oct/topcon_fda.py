"""Topcon `.fda`: named chunks, of which few are known and fewer agreed upon.

Public descriptions of the format come from looking at files. Where they contradict each other
(the code of the scan type, the eye) nothing is taken from the file.
"""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import OctReadError, OctVolume, Pixels, Spacing, check_size

NAME = "topcon-fda"
_HEADER = 15
_JPEG, _RAW, _SCAN, _CAPTURE = "@IMG_JPEG", "@IMG_MOT_COMP_03", "@PARAM_SCAN_04", "@CAPTURE_INFO_02"
_RASTER_FROM = 32
"""Radial and line scans have a dozen B-scans at most; from this number on it is a raster."""

Chunk = tuple[int, int]


def read(path: Path, options: ReadOptions) -> list[OctVolume]:
    """Read a Topcon volume; the eye stays unknown."""
    with path.open("rb") as stream:
        chunks = _chunks(path, stream)
        pixels: Pixels
        if _JPEG in chunks:
            pixels = _read_jpeg(path, stream, chunks[_JPEG])
        elif _RAW in chunks:
            pixels = _read_raw(path, stream, chunks[_RAW])
        else:
            raise OctReadError(path, f"no B-scans in it: its chunks are {sorted(chunks)[:8]}.")
        scan = _bytes(stream, chunks, _SCAN, 36)
        capture = _bytes(stream, chunks, _CAPTURE, 1)
    volume = OctVolume(pixels, reader=NAME, source=path)
    volume.meta["chunks"] = sorted(chunks)
    _add_spacing(volume, scan)
    if capture and capture[0] in (0, 1):
        eye = ("OD", "OS")[capture[0]]
        volume.warnings.append(
            f"a byte that some read as the eye says {eye}; give --laterality to state it."
        )
    return [volume]


def _chunks(path: Path, stream: BinaryIO) -> dict[str, Chunk]:
    """Return name to (place, length); the first of equal names counts."""
    size = path.stat().st_size
    head = stream.read(_HEADER)
    if head[:4] != b"FOCT" or len(head) < _HEADER:
        raise OctReadError(
            path, f"not a Topcon .fda file: it starts with {head[:7]!r}, expected b'FOCTFDA'."
        )
    chunks: dict[str, Chunk] = {}
    place = _HEADER
    while place < size:
        stream.seek(place)
        length = stream.read(1)[0]
        if length == 0:
            break
        head = stream.read(length + 4)
        if len(head) < length + 4:
            raise OctReadError(path, "truncated within the name of a chunk.")
        name = head[:length].decode("latin-1")
        bytes_ = struct.unpack("<I", head[length:])[0]
        place = stream.tell()
        if bytes_ > size - place:
            raise OctReadError(
                path,
                f"truncated: chunk {name} has {bytes_} bytes, but {size - place} are left.",
            )
        chunks.setdefault(name, (place, bytes_))
        place += bytes_
    return chunks


def _bytes(stream: BinaryIO, chunks: dict[str, Chunk], name: str, needed: int) -> bytes:
    place, length = chunks.get(name, (0, 0))
    if length < needed:
        return b""
    stream.seek(place)
    return stream.read(needed)


def _read_jpeg(path: Path, stream: BinaryIO, chunk: Chunk) -> NDArray[np.uint8]:
    """Decode the B-scans, which are JPEG or JPEG 2000 pictures one after the other."""
    place, length = chunk
    stream.seek(place)
    head = stream.read(25)
    if len(head) < 25:
        raise OctReadError(path, f"{_JPEG} has {length} bytes, too few for its header.")
    width, height, count = struct.unpack("<3I", head[9:21])
    check_size(path, (count, height, width), 1)
    if 4 * count > length:
        raise OctReadError(path, f"{_JPEG} claims {count} B-scans in {length} bytes.")
    pixels = np.empty((count, height, width), np.uint8)
    for number in range(count):
        size = struct.unpack("<I", stream.read(4))[0]
        if stream.tell() + size > place + length:
            raise OctReadError(path, f"B-scan {number + 1} runs beyond its chunk.")
        pixels[number] = _decode(path, stream.read(size), number, (height, width))
    return pixels


def _decode(path: Path, data: bytes, number: int, shape: tuple[int, int]) -> Any:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if (image.height, image.width) != shape:
                raise OctReadError(
                    path,
                    f"B-scan {number + 1} has {image.height} x {image.width} pixels, expected "
                    f"{shape[0]} x {shape[1]}.",
                )
            return np.asarray(image.convert("L"))
    except OctReadError:
        raise
    except Exception as error:  # Pillow raises whatever the bytes lead it to
        raise OctReadError(
            path, f"B-scan {number + 1} cannot be decoded ({type(error).__name__})."
        ) from error


def _read_raw(path: Path, stream: BinaryIO, chunk: Chunk) -> NDArray[np.uint16]:
    place, length = chunk
    stream.seek(place)
    head = stream.read(22)
    if len(head) < 22:
        raise OctReadError(path, f"{_RAW} has {length} bytes, too few for its header.")
    width, height, bits, count = struct.unpack("<4I", head[1:17])
    if bits != 16:
        raise OctReadError(path, f"{_RAW} has {bits} bits a pixel, expected 16.")
    total = check_size(path, (count, height, width), 2, length - 22)
    return np.frombuffer(stream.read(total), "<u2").reshape(count, height, width).copy()


def _add_spacing(volume: OctVolume, scan: bytes) -> None:
    """Take the scan's extents in mm and the depth's resolution in micrometres."""
    if not scan:
        return
    count, _, width = volume.shape
    across, along, resolution = struct.unpack("<3d", scan[12:36])
    between = _step(along, count, 1.0)
    if count < _RASTER_FROM:
        between = None
        if count > 1:
            volume.warnings.append(
                f"{count} B-scans only: it may be a radial or line scan, the distance between them "
                "stays unknown."
            )
    volume.spacing = Spacing(_step(across, width, 0.2), _step(resolution / 1000, 1, 0.05), between)
    if volume.spacing.lateral:
        volume.provenance["spacing_lateral_mm"] = f"file: {across:g} mm over {width} A-scans"
    if between:
        volume.provenance["spacing_between_mm"] = f"file: {along:g} mm over {count} B-scans"


def _step(length: float, count: int, largest: float) -> float | None:
    if not math.isfinite(length) or not 0 < length / count <= largest:
        return None
    return length / count
