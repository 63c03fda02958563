"""Bioptigen `.OCT` (InVivoVue): a list of keys with values, then one block per B-scan.

Each entry is a length, a name, a length and a value; a length of 0 ends a list. The pixels are
16 bits, A-scan after A-scan.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import OctReadError, OctVolume, Spacing, check_size

NAME = "bioptigen"
_NUMBERS = (
    "FRAMECOUNT",
    "LINECOUNT",
    "LINELENGTH",
    "SAMPLEFORMAT",
    "SCANTYPE",
    "SCANS",
    "FRAMES",
    "FRAMESPERVOLUME",
    "DOPPLERFLAG",
)
_REALS = ("SCANDEPTH", "SCANLENGTH", "AZSCANLENGTH", "ELSCANLENGTH", "SCANANGLE")
_LINEAR, _RECTANGULAR = 0, 1
_REFUSED = {3: "a radial scan", 6: "a scan of mixed density"}
_LONGEST_KEY = 64


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read the volume of a Bioptigen file; radial and mixed scans are refused.

    The spacing is the scan's length and depth, as the header gives them in mm, over the number of
    pixels.
    """
    path = source.path
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = _read_header(path, stream)
        kind = header.get("SCANTYPE", -1)
        if kind in _REFUSED:
            raise OctReadError(path, f"{_REFUSED[kind]}, expected parallel B-scans.")
        frames, lines, depth = _sizes(path, header)
        check_size(path, (frames, lines, depth), 2, size)
        pixels = np.empty((frames, depth, lines), np.uint16)
        for number in range(frames):
            pixels[number] = _read_frame(path, stream, number, lines, depth)
    volume = OctVolume(pixels, reader=NAME, source=path)
    volume.meta = {name.lower(): header[name] for name in (*_NUMBERS, *_REALS) if name in header}
    _add_spacing(volume, header, kind)
    return [volume]


def _read_header(path: Path, stream: BinaryIO) -> dict[str, Any]:
    stream.read(6)  # a magic number and a version, which differ between models
    if _entry(path, stream)[0] != "FRAMEHEADER":
        raise OctReadError(
            path,
            "not a Bioptigen .OCT file: FRAMEHEADER is missing (Optovue's .OCT is another format, "
            "which is not supported).",
        )
    header: dict[str, Any] = {}
    while True:
        place = stream.tell()
        name, length = _entry(path, stream)
        if name == "FRAMEDATA":
            stream.seek(place)
            return header
        if not name:
            return header
        value = _value(path, stream, length)
        if name in _NUMBERS and length in (2, 4, 8):
            header[name] = int.from_bytes(value, "little")
        elif name in _REALS and length == 8:
            header[name] = struct.unpack("<d", value)[0]


def _entry(path: Path, stream: BinaryIO) -> tuple[str, int]:
    """Return the next name and the length of its value; "" at the end of a list."""
    length = _uint32(path, stream)
    if length == 0:
        return "", 0
    if length > _LONGEST_KEY:
        # the first entry of another format: name the format, not a random number
        return "?", 0
    name = _value(path, stream, length).decode("latin-1").rstrip("\0")
    return name, _uint32(path, stream)


def _uint32(path: Path, stream: BinaryIO) -> int:
    return int(struct.unpack("<I", _value(path, stream, 4))[0])


def _value(path: Path, stream: BinaryIO, length: int) -> bytes:
    left = path.stat().st_size - stream.tell()
    if not 0 <= length <= left:
        raise OctReadError(path, f"truncated: an entry of {length} bytes, but {left} are left.")
    return stream.read(length)


def _sizes(path: Path, header: dict[str, Any]) -> tuple[int, int, int]:
    missing = [n for n in ("FRAMECOUNT", "LINECOUNT", "LINELENGTH") if not header.get(n)]
    if missing:
        raise OctReadError(path, f"the header has no {', '.join(missing)}.")
    if header.get("FRAMES", 1) > 1 and header.get("SCANS", 1) > 1:
        raise OctReadError(
            path,
            f"{header['FRAMES']} frames at each of {header['SCANS']} places: the format does not "
            "give their order; export one frame per place.",
        )
    return header["FRAMECOUNT"], header["LINECOUNT"], header["LINELENGTH"]


def _read_frame(path: Path, stream: BinaryIO, number: int, lines: int, depth: int) -> Any:
    """Return the pixels (depth, lines) of the next frame and leave the stream after it."""
    where = f"B-scan {number + 1}"
    name, _ = _entry(path, stream)
    if name != "FRAMEDATA":
        raise OctReadError(path, f"{where}: {name or 'nothing'} found, expected FRAMEDATA.")
    own_lines, pixels = lines, None
    while True:
        place = stream.tell()
        name, length = ("", 0) if place == path.stat().st_size else _entry(path, stream)
        if name == "FRAMEDATA":
            stream.seek(place)
        if name in ("", "FRAMEDATA"):
            break
        if name == "FRAMESAMPLES":
            if own_lines != lines:
                raise OctReadError(path, f"{where} has {own_lines} A-scans, expected {lines}.")
            needed = 2 * lines * depth
            if length not in (0, needed):
                raise OctReadError(path, f"{where} has {length} bytes, expected {needed}.")
            pixels = np.frombuffer(_value(path, stream, needed), "<u2").reshape(lines, depth).T
        elif name == "DOPPLERSAMPLES":
            _value(path, stream, length or 2 * own_lines * depth)
        else:
            value = _value(path, stream, length)
            if name == "FRAMELINES":
                own_lines = int.from_bytes(value, "little") or lines
    if pixels is None:
        raise OctReadError(path, f"{where} has no FRAMESAMPLES.")
    return pixels


def _add_spacing(volume: OctVolume, header: dict[str, Any], kind: int) -> None:
    frames, depth, lines = volume.shape
    lateral = _step(volume, header, "AZSCANLENGTH", lines, "spacing_lateral_mm")
    axial = _step(volume, header, "SCANDEPTH", depth, "spacing_axial_mm")
    between = None
    if kind == _RECTANGULAR and frames > 1:
        between = _step(volume, header, "ELSCANLENGTH", frames, "spacing_between_mm")
    elif kind == _LINEAR:
        volume.warnings.append("a line scan: all B-scans are at one place, no distance.")
    elif kind != _RECTANGULAR:
        lateral = None
        volume.warnings.append(f"scan type {kind} is not known: only the depth's spacing is taken.")
    volume.spacing = Spacing(lateral, axial, between)


def _step(
    volume: OctVolume, header: dict[str, Any], name: str, count: int, key: str
) -> float | None:
    length = header.get(name)
    if length is None:
        return None
    volume.provenance[key] = f"file: {name} {length:g} mm over {count} pixels"
    return float(length) / count
