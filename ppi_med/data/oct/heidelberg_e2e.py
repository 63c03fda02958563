"""Heidelberg `.e2e` through eyepy (extra `oct`): pixels, eye and depth spacing, nothing else.

eyepy does not know the format's lateral scale and the distance between B-scans and puts 1 instead:
here they stay unknown.

Pixels are 16-bit numbers without sign, 6 bits of exponent above 10 of mantissa. Public readers take
the mantissa's bits in reverse, unlike any other number format. As neither order is documented, the
one with smaller differences between neighbouring A-scans is used, and stated.
"""

from __future__ import annotations

import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.heidelberg_vol import grey_from_float
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import (
    OctReadError,
    OctVolume,
    Spacing,
    check_size,
    fault_of,
    normal_laterality,
)

NAME = "heidelberg-e2e"
_MAGIC = b"CMDb"
_REFUSED = {2: "a circle scan", 5: "a radial scan (star)"}
_EMPTY_ABOVE = 1.99
_PATIENT, _LATERALITY = 9, 11
_IMAGE, _BSCAN = 1073741824, 35652097
_SCALE_TOLERANCE = 1e-6


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read every volume of an `.e2e` file; circle and radial scans are left out."""
    path = source.path
    with path.open("rb") as stream:
        head = stream.read(4)
    if head != _MAGIC:
        raise OctReadError(path, f"not an .e2e file: it starts with {head!r}, expected {_MAGIC!r}.")
    volumes: list[OctVolume] = []
    refused: list[str] = []
    try:
        with _reader(path) as reader:  # the file is open only within
            series = list(reader.series)
            for number, item in enumerate(series, start=1):
                try:
                    volumes.append(_read_series(path, item))
                except BaseException as error:  # the other series may be valid
                    refused.append(f"series {number} of {len(series)} left out: {_damaged(error)}")
    except OctReadError:
        raise
    except BaseException as error:  # the bytes can raise anything in eyepy
        raise OctReadError(path, _damaged(error)) from error
    if not volumes:
        raise OctReadError(path, " ".join(refused) or "no OCT series in it: damaged or truncated.")
    volumes[0].warnings += refused
    return volumes


def _reader(path: Path) -> Any:
    try:
        module = import_module("eyepy.io.he.e2e_reader")
    except ImportError as error:
        raise OctReadError(path, "reading .e2e needs eyepy: pip install 'ppi_med[oct]'.") from error
    return module.HeE2eReader(path)


def _damaged(error: BaseException) -> str:
    reason = fault_of(error)
    return reason if isinstance(error, OctReadError) else f"damaged or truncated ({reason})."


def _read_series(path: Path, series: Any) -> OctVolume:
    """Read one series slice by slice: eyepy's own volume needs more than the file must have."""
    slices = [series.slices[number] for number in sorted(series.slices)]
    metas = [item.get_meta() for item in slices]
    if not metas:
        raise OctReadError(path, "no B-scans in it.")
    pattern = metas[0]["scan_pattern"]
    if pattern in _REFUSED:
        raise OctReadError(path, f"{_REFUSED[pattern]}, expected parallel B-scans.")
    expected = int(metas[0]["n_bscans"])
    if expected != len(slices):
        raise OctReadError(
            path, f"{len(slices)} B-scans, but the series claims {expected}: incomplete."
        )
    shape = (len(slices), int(metas[0]["size_y"]), int(metas[0]["size_x"]))
    check_size(path, shape, 2, path.stat().st_size)
    codes = [_codes(path, item, number, shape[1:]) for number, item in enumerate(slices)]
    reverse = _mantissa_reversed(codes[len(codes) // 2])
    pixels = np.empty(shape, np.uint8)
    for number, plane in enumerate(codes):
        pixels[number] = grey_from_float(_decode(plane, reverse), _EMPTY_ABOVE)
    volume = OctVolume(pixels, reader=NAME, source=path)
    volume.provenance["pixels"] = (
        "rule: vendor's logarithmic grey scale of the raw intensities, mantissa read with the "
        f"{'least' if reverse else 'most'} significant bit first, as the image is smoother so"
    )
    volume.laterality = normal_laterality(_eye(series))
    volume.subject_key = _patient(series)
    scales = [float(meta["scale_y"]) for meta in metas]
    equal = max(scales) - min(scales) <= _SCALE_TOLERANCE
    if equal:
        volume.spacing = Spacing(axial=scales[0])
    return volume


def _codes(path: Path, item: Any, number: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Return the stored 16-bit codes of a B-scan."""
    blocks = [folder.get_bytes() for folder in _folders(item, _IMAGE)]
    for block in blocks:
        if len(block) < 20:
            continue
        _, kind, _, height, width = struct.unpack("<5I", block[:20])
        if kind != _BSCAN:
            continue
        if (height, width) != shape or len(block) < 20 + 2 * height * width:
            raise OctReadError(
                path,
                f"B-scan {number + 1} has {height} x {width} pixels in {len(block)} bytes, "
                f"expected {shape[0]} x {shape[1]}: damaged or truncated.",
            )
        return np.frombuffer(block, "<u2", height * width, 20).reshape(shape)
    raise OctReadError(path, f"B-scan {number + 1} has no pixels: damaged or truncated.")


def _decode(codes: NDArray[np.uint16], reverse: bool) -> NDArray[np.float32]:
    """Return (1 + mantissa / 1024) 2^(exponent - 63)."""
    mantissa = (codes & 1023).astype(np.int32)
    if reverse:
        table = np.array([int(f"{value:010b}"[::-1], 2) for value in range(1024)])
        mantissa = table[mantissa]
    exponent = (codes >> 10).astype(np.int32) - 63
    return np.ldexp((1 + mantissa / 1024).astype(np.float32), exponent).astype(np.float32)


def _mantissa_reversed(codes: NDArray[np.uint16]) -> bool:
    """Say whether neighbouring A-scans differ clearly less with the mantissa's bits reversed."""
    rough = []
    for reverse in (False, True):
        grey = grey_from_float(_decode(codes, reverse), _EMPTY_ABOVE).astype(np.float32)
        rough.append(float(np.abs(np.diff(grey, axis=1)).mean()) if codes.shape[1] > 1 else 0.0)
    return rough[1] < 0.95 * rough[0]


def _eye(series: Any) -> str:
    """Return "R" or "L"; "" if the series does not state it or contradicts itself."""
    codes = {int(folder.data.laterality) for folder in _folders(series, _LATERALITY)}
    return chr(codes.pop()) if len(codes) == 1 else ""


def _patient(series: Any) -> str | None:
    found = {str(folder.data.patient_id).strip() for folder in _folders(series.patient, _PATIENT)}
    return found.pop() or None if len(found) == 1 else None


def _folders(structure: Any, wanted: int) -> list[Any]:
    """Return the data of one kind; kinds are eyepy's enumeration or plain numbers."""
    items = structure.folders.items()
    return [folder for kind, folders in items if int(kind) == wanted for folder in folders]
