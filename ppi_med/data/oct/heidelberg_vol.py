"""Heidelberg `.vol`, the raw export of HEYEX.

A header of 2,048 bytes, the fundus picture (8 bits), then for each B-scan a header and its pixels
as 32-bit floats from 0 to 1; the largest float marks pixels that were not recorded.
"""

from __future__ import annotations

import struct
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import (
    OctReadError,
    OctVolume,
    Spacing,
    between_bscans,
    check_range,
    check_size,
    normal_laterality,
    read_range,
)

NAME = "heidelberg-vol"
_HEADER_SIZE = 2048
_HEADER = struct.Struct("<12s3I3d2I2dId4sQiI16s16sI24s")
_BSCAN = struct.Struct("<12sI4d2If")
_MAGIC = (b"HSF-OCT", b"ep-v")
_REFUSED = {2: "a circle scan", 5: "a radial scan (star)"}
_PATTERNS = {0: "unknown", 1: "line", 2: "circle", 3: "volume", 4: "fast volume", 5: "radial"}
_AGREE = 0.05
_EMPTY_ABOVE = 1e38
"""The largest 32-bit float, 3.4e38, marks a pixel that was not recorded."""


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read the one volume of a `.vol` file; circle and radial scans are refused."""
    path = source.path
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_HEADER_SIZE)
        if not head.startswith(_MAGIC):
            raise OctReadError(
                path, f"not a HEYEX .vol file: it starts with {head[:12]!r}, expected HSF-OCT."
            )
        if len(head) < _HEADER_SIZE:
            raise OctReadError(path, f"truncated: {size} bytes, the header alone has 2048.")
        header = _parse(head)
        pattern = header["pattern"]
        if pattern in _REFUSED:
            raise OctReadError(path, f"{_REFUSED[pattern]}, expected parallel B-scans.")
        shape = (header["n"], header["depth"], header["width"])
        check_size(path, shape, 4, size)
        pixels = np.empty(shape, np.uint8)
        lines, beyond = [], 0
        check_range(path, _HEADER_SIZE, header["fundus"], size, "the fundus picture")
        place = _HEADER_SIZE + header["fundus"]
        for number in range(shape[0]):
            line, raw, place = _read_bscan(path, stream, place, shape[1:], number)
            pixels[number] = grey_from_float(raw)
            beyond += int(((raw > 1) & (raw <= _EMPTY_ABOVE)).sum())
            lines.append(line)
    volume = OctVolume(pixels, reader=NAME, source=path)
    volume.laterality = normal_laterality(header["eye"])
    volume.subject_key = header["patient"] or None
    volume.meta = {"scan_pattern": _PATTERNS.get(pattern, str(pattern)), "exam": header["exam"]}
    volume.provenance["pixels"] = "rule: vendor's logarithmic grey scale of the raw intensities"
    if beyond:
        volume.warnings.append(
            f"{beyond} of {pixels.size} intensities are above 1, the format's largest: they are "
            "shown as white. Was the file written by HEYEX?"
        )
    _add_spacing(volume, header, lines)
    return [volume]


def _read_bscan(
    path: Path, stream: BinaryIO, place: int, shape: tuple[int, int], number: int
) -> tuple[tuple[Any, Any], NDArray[np.float32], int]:
    """Return start and end in mm, the raw pixels, and the position after the B-scan.

    The length of its header is in that header; the file's header may differ.
    """
    what = f"the header of B-scan {number + 1}"
    fields = _BSCAN.unpack(read_range(path, stream, place, _BSCAN.size, what))
    if fields[1] < _BSCAN.size:
        raise OctReadError(path, f"damaged: {what} claims {fields[1]} bytes.")
    place += fields[1]
    raw = read_range(path, stream, place, 4 * shape[0] * shape[1], f"B-scan {number + 1}")
    pixels = np.frombuffer(raw, "<f4").reshape(shape)
    return (fields[2:4], fields[4:6]), pixels, place + len(raw)


def grey_from_float(
    raw: NDArray[np.float32], empty_above: float = _EMPTY_ABOVE
) -> NDArray[np.uint8]:
    """Return the grey values that the vendor's own export shows for raw intensities.

    grey = 255 (ln(x + 0.000244) + 8.3) / 8.285, cut to 0..255; x is cut to 0..1 first. Pixels
    above `empty_above` were not recorded and become 0.

    Examples:
        >>> grey_from_float(np.array([0.0, 1.0, 1.5, 3.4e38], np.float32))
        array([  0, 255, 255,   0], dtype=uint8)
    """
    values = np.clip(raw.astype(np.float32), 0, 1)
    grey = (np.log(values + np.float32(2.44e-4)) + np.float32(8.3)) / np.float32(8.285)
    scaled = np.rint(np.clip(grey, 0, 1) * 255)
    return np.where(raw <= empty_above, scaled, 0).astype(np.uint8)


def _parse(head: bytes) -> dict[str, Any]:
    fields = _HEADER.unpack(head[: _HEADER.size])
    width, n_bscans, depth, scale_x, distance, scale_y, fundus_x, fundus_y = fields[1:9]
    return {
        "width": width,
        "n": n_bscans,
        "depth": depth,
        "scale_x": scale_x,
        "distance": distance,
        "scale_y": scale_y,
        "fundus": fundus_x * fundus_y,
        "eye": _text(fields[13]),
        "exam": _moment(fields[14]),
        "pattern": fields[15],
        "patient": "" if _text(fields[20]) == "unknown" else _text(fields[20]),
    }


def _add_spacing(volume: OctVolume, header: dict[str, Any], lines: list[Any]) -> None:
    """State the header's distances; that between B-scans only if the positions confirm it."""
    between: float | None = header["distance"]
    if len(lines) == 1 and between == 0:
        between = None  # there is only one B-scan
    measured, reason = between_bscans([line[0] for line in lines], [line[1] for line in lines])
    far = between and measured and abs(measured - between) > _AGREE * abs(between)
    if far:
        reason = (
            f"the header says {between:.4f} mm between B-scans, their positions {measured:.4f} mm: "
            "it stays unknown."
        )
        between = None
    elif measured is None and reason.startswith(("uneven", "B-scan ")):
        between = None
    else:
        reason = ""
    if reason:
        volume.warnings.append(reason)
    volume.spacing = Spacing(header["scale_x"], header["scale_y"], between)


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("latin-1").strip()


def _moment(ticks: int) -> str:
    """Return the time of 100 ns ticks since 1601 as text, "" if it is not set."""
    if not 0 < ticks < 2**59:
        return ""
    return (datetime(1601, 1, 1) + timedelta(microseconds=ticks // 10)).isoformat("T", "seconds")
