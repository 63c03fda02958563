"""Zeiss Cirrus `.img`: bare 8-bit pixels without a header.

The sizes come from the vendor's file name ("Macular Cube 512x128"), from the length of the file
where only one cube has it, or from the user. The rows run from the choroid to the vitreous and
the columns from right to left; both are turned.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import OctReadError, OctVolume, check_size, normal_laterality

NAME = "zeiss-img"
_DEPTH = 1024
_CUBES = {512 * 128 * _DEPTH: (512, 128), 200 * 200 * _DEPTH: (200, 200)}
_NAME_SIZE = re.compile(r"(?:cube|raster)[ _]*(\d{1,4})x(\d{1,4})(?=[ _])", re.IGNORECASE)
_NAME_EYE = re.compile(r"_(OD|OS)_sn\w+_", re.IGNORECASE)


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read a Cirrus cube; its spacing is unknown."""
    path = source.path
    size = path.stat().st_size
    (depth, width, n_bscans), origin = _shape(path, size, options)
    check_size(path, (n_bscans, depth, width), 1, size)
    if n_bscans * depth * width != size:
        raise OctReadError(
            path,
            f"{size} bytes, expected {n_bscans * depth * width} for {n_bscans} B-scans of "
            f"{depth} x {width} ({origin}).",
        )
    pixels = np.fromfile(path, np.uint8).reshape(n_bscans, depth, width)[:, ::-1, ::-1]
    volume = OctVolume(np.ascontiguousarray(pixels), reader=NAME, source=path)
    volume.provenance["shape"] = origin
    match = _NAME_EYE.search(path.name)
    if match:
        volume.laterality = normal_laterality(match[1])
        volume.provenance["eye"] = "rule: vendor's file name"
    return [volume]


def _shape(path: Path, size: int, options: ReadOptions) -> tuple[tuple[int, int, int], str]:
    """Return (depth, width, B-scans) and where it is from."""
    if options.shape is not None:
        return options.shape, "user: --shape"
    match = _NAME_SIZE.search(path.name)
    if match:
        return (_DEPTH, int(match[1]), int(match[2])), "rule: vendor's file name"
    if size in _CUBES:
        width, n_bscans = _CUBES[size]
        return (_DEPTH, width, n_bscans), "rule: the only known cube of this length"
    raise OctReadError(
        path,
        f"{size} bytes fit no known Cirrus cube and the name has no size; give --shape "
        "DEPTH,WIDTH,B-SCANS.",
    )
