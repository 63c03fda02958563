"""Topcon `.fda`: named chunks, few of them known and fewer undisputed.

Public descriptions of the format come from inspecting files. Where they contradict each other (the
code of the scan type, the eye) the file is not used.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.stack import grey_pixels
from ppi_med.data.oct.volume import (
    OctReadError,
    OctVolume,
    Pixels,
    Spacing,
    check_range,
    check_size,
    fault_of,
    read_range,
)

NAME = "topcon-fda"
_HEADER = 15
_JPEG, _RAW, _SCAN, _CAPTURE = "@IMG_JPEG", "@IMG_MOT_COMP_03", "@PARAM_SCAN_04", "@CAPTURE_INFO_02"
_RASTER_FROM = 32
"""Radial and line scans have a dozen B-scans at most; from this number on it is a raster."""

_NEEDED = {_SCAN: 36, _CAPTURE: 1}

Chunk = tuple[int, int]
Chunks = dict[str, list[Chunk]]


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read the recordings of a Topcon file; the eye stays unknown.

    If it holds several, each uses the scan parameters of its own number, if their numbers match;
    otherwise they could be another recording's, and the spacing stays unknown.
    """
    path = source.path
    with path.open("rb") as stream:
        chunks = _chunks(path, stream)
        name, read_pixels = (_JPEG, _read_jpeg) if _JPEG in chunks else (_RAW, _read_raw)
        if name not in chunks:
            raise OctReadError(path, f"no B-scans in it: its chunks are {sorted(chunks)[:8]}.")
        count = len(chunks[name])
        return [
            _volume(
                path,
                read_pixels(path, stream, chunks[name][number]),
                sorted(chunks),
                *(_bytes(stream, chunks, part, count, number) for part in (_SCAN, _CAPTURE)),
            )
            for number in range(count)
        ]


def _volume(path: Path, pixels: Pixels, names: list[str], scan: bytes, capture: bytes) -> OctVolume:
    volume = OctVolume(pixels, reader=NAME, source=path)
    volume.meta["chunks"] = names
    _add_spacing(volume, scan)
    if capture and capture[0] in (0, 1):
        eye = ("OD", "OS")[capture[0]]
        volume.warnings.append(
            f"a byte that some read as the eye says {eye}; give --laterality to state it."
        )
    return volume


def _chunks(path: Path, stream: BinaryIO) -> Chunks:
    """Return name to (place, length) of each chunk of that name, in the file's order."""
    size = path.stat().st_size
    head = stream.read(_HEADER)
    if head[:4] != b"FOCT" or len(head) < _HEADER:
        raise OctReadError(
            path, f"not a Topcon .fda file: it starts with {head[:7]!r}, expected b'FOCTFDA'."
        )
    chunks: Chunks = {}
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
        chunks.setdefault(name, []).append((place, bytes_))
        place += bytes_
    return chunks


def _bytes(stream: BinaryIO, chunks: Chunks, name: str, count: int, number: int) -> bytes:
    """Return a recording's own chunk of a name, b"" if it cannot be determined."""
    found = chunks.get(name, [])
    if len(found) != count or found[number][1] < _NEEDED[name]:
        return b""
    stream.seek(found[number][0])
    return stream.read(_NEEDED[name])


def _read_jpeg(path: Path, stream: BinaryIO, chunk: Chunk) -> Pixels:
    """Decode the B-scans, consecutive JPEG or JPEG 2000 pictures."""
    place, length = chunk
    head = read_range(path, stream, place, 25, f"the header of {_JPEG}")
    width, height, count = struct.unpack("<3I", head[9:21])
    check_size(path, (count, height, width), 1)
    if 4 * count > length:
        raise OctReadError(path, f"{_JPEG} claims {count} B-scans in {length} bytes.")
    place, end = place + 25, place + length
    planes: list[NDArray[Any]] = []
    for number in range(count):
        what = f"B-scan {number + 1}"
        check_range(path, place, 4, end, what)
        size = struct.unpack("<I", read_range(path, stream, place, 4, what))[0]
        check_range(path, place + 4, size, end, what)
        data = read_range(path, stream, place + 4, size, what)
        planes.append(_decode(path, data, what, (height, width)))
        check_size(path, (count, height, width), planes[0].dtype.itemsize)
        if planes[-1].dtype != planes[0].dtype:
            raise OctReadError(path, f"{what} has another depth of bits than the first.")
        place += 4 + size
    return np.stack(planes)


def _decode(path: Path, data: bytes, what: str, shape: tuple[int, int]) -> NDArray[Any]:
    """Return the pixels of one picture as they are, 8 or 16 bits."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if (image.height, image.width) == shape:
                return grey_pixels(path, what, image)[0]
            raise OctReadError(
                path,
                f"{what} has {image.height} x {image.width} pixels, expected {shape[0]} x "
                f"{shape[1]}.",
            )
    except BaseException as error:  # the bytes can raise anything in Pillow
        if isinstance(error, OctReadError):
            raise
        raise OctReadError(path, f"{what} cannot be decoded ({fault_of(error)}).") from error


def _read_raw(path: Path, stream: BinaryIO, chunk: Chunk) -> NDArray[np.uint16]:
    place, length = chunk
    check_range(path, place, 22, place + length, f"the header of {_RAW}")
    head = read_range(path, stream, place, 22, f"the header of {_RAW}")
    width, height, bits, count = struct.unpack("<4I", head[1:17])
    if bits != 16:
        raise OctReadError(path, f"{_RAW} has {bits} bits per pixel, expected 16.")
    total = check_size(path, (count, height, width), 2, length - 22)
    return np.frombuffer(stream.read(total), "<u2").reshape(count, height, width).copy()


def _add_spacing(volume: OctVolume, scan: bytes) -> None:
    """Read the scan's extents in mm and the depth's resolution in micrometres."""
    if not scan:
        return
    count, _, width = volume.shape
    across, along, resolution = struct.unpack("<3d", scan[12:36])
    between: float | None = along / count
    if count < _RASTER_FROM:
        between = None
        if count > 1:
            volume.warnings.append(
                f"{count} B-scans only: it may be a radial or line scan, the distance between them "
                "stays unknown."
            )
    volume.spacing = Spacing(across / width, resolution / 1000, between)
    volume.provenance["spacing_lateral_mm"] = f"file: {across:g} mm over {width} A-scans"
    if between is not None:
        volume.provenance["spacing_between_mm"] = f"file: {along:g} mm over {count} B-scans"
