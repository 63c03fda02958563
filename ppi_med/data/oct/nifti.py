"""OCT volumes as NIfTI: axes (A-scan, depth, B-scan), 8 bits, mm or marked as unknown."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import NIFTI, Source
from ppi_med.data.oct.volume import OctReadError, OctVolume, Spacing, check_size, fault_of
from ppi_med.io import atomic_path

_HEAD = 1024
_STEP = 2**20
_UNSCALED = ((None, None), (1.0, 0.0))
_MOST_TRAILING = 2**20
"""Bytes after the pixels that other programs may leave."""


def write_nifti(path: str | Path, pixels: NDArray[np.uint8], spacing: Spacing) -> Path:
    """Write `(S, H, W)` pixels as NIfTI.

    If all three distances are known the units are mm and the frame is the scanner's (code 1). If
    one is unknown its axis has pixdim 1, and the units and both form codes say unknown (0): the
    numbers are then not distances.

    Args:
        path: ends in `.nii.gz` or `.nii`; the same pixels always give the same bytes.
        pixels: uint8, `(n_bscans, depth, width)`.
        spacing: mm.

    Returns:
        The path.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.nii.gz"
        >>> _ = write_nifti(path, np.zeros((2, 4, 3), np.uint8), Spacing(axial=0.004))
        >>> read_nifti(path)[1]
        Spacing(lateral=None, axial=None, between=None)
    """
    nib: Any = import_module("nibabel")
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (S, H, W).")
    sizes = [1.0 if value is None else float(value) for value in spacing]
    code = 1 if spacing.known else 0
    image = nib.Nifti1Image(pixels.transpose(2, 1, 0), np.diag([*sizes, 1.0]))
    image.header.set_data_dtype(np.uint8)
    image.set_qform(image.affine, code)
    image.set_sform(image.affine, code)
    image.header.set_zooms(sizes)
    image.header.set_xyzt_units("mm" if spacing.known else "unknown", "unknown")
    path = Path(path)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read a converted volume; other NIfTI files are refused unless they hold the same kind."""
    pixels, spacing = read_nifti(source.path)
    if pixels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise OctReadError(
            source.path,
            f"the pixels are {pixels.dtype}, expected uint8 as the conversion writes them; "
            "convert the original file.",
        )
    return [OctVolume(np.ascontiguousarray(pixels), NIFTI, source.path, spacing)]


def read_nifti(path: str | Path) -> tuple[NDArray[Any], Spacing]:
    """Return `(S, H, W)` pixels and the spacing, all unknown if the header's units are unknown.

    The sizes that the header claims are checked before memory is allocated. A compressed file is
    unpacked only up to these sizes, and its checksum must be right.

    Raises:
        OctReadError: for a file that is damaged, too large, or without three axes.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        return _read_packed(path) if packed else _read_plain(path)
    except (OctReadError, FileNotFoundError):
        raise
    except Exception as error:  # the bytes can raise anything in nibabel
        raise OctReadError(path, f"not a readable NIfTI volume ({fault_of(error)}).") from error


def _read_plain(path: Path) -> tuple[NDArray[Any], Spacing]:
    with path.open("rb") as stream:
        header, start = _header(path, stream.read(_HEAD))
    _claimed(path, header, path.stat().st_size - start)
    return _content(header, np.memmap(path, np.uint8, mode="r", offset=start))


def _read_packed(path: Path) -> tuple[NDArray[Any], Spacing]:
    """Unpack as much as the header claims; zlib compares the checksum at the end."""
    with path.open("rb") as stream:
        inflated = _inflated(path, stream)
        content = bytearray()
        while len(content) < _HEAD and (piece := next(inflated, b"")):
            content += piece
        header, start = _header(path, bytes(content[:_HEAD]))
        most = start + _claimed(path, header)
        for piece in inflated:
            content += piece
            if len(content) > most + _MOST_TRAILING:
                raise OctReadError(
                    path, f"damaged: it unpacks to more than the {most} bytes that it claims."
                )
    if len(content) < most:
        raise OctReadError(path, f"truncated: {len(content)} bytes, the header claims {most}.")
    return _content(header, np.frombuffer(content, np.uint8, offset=start))


def _inflated(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a gzip file piece by piece, whole and with the right checksum."""
    unpack = zlib.decompressobj(wbits=31)
    pending = stream.read(_STEP)
    while pending:
        try:
            piece = unpack.decompress(pending, _STEP)
        except zlib.error as error:
            raise OctReadError(path, f"damaged: its checksum or content is wrong ({error}).") from (
                error
            )
        if piece:
            yield piece
        pending = unpack.unconsumed_tail or unpack.unused_data or stream.read(_STEP)
        if unpack.eof and pending:
            if not pending.startswith(b"\x1f"):  # padding, as tape archives leave it
                return
            unpack = zlib.decompressobj(wbits=31)
    if not unpack.eof:
        raise OctReadError(path, "truncated: the end of the compressed data is missing.")


def _header(path: Path, head: bytes) -> tuple[Any, int]:
    """Return the header and where the pixels begin."""
    nib: Any = import_module("nibabel")
    for kind, length in ((nib.Nifti1Header, 348), (nib.Nifti2Header, 540)):
        if length in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")):
            if len(head) < length:
                raise OctReadError(path, f"truncated: {len(head)} bytes, the header has {length}.")
            header = kind.from_fileobj(io.BytesIO(head[:length]), check=False)
            return header, max(int(header["vox_offset"]), length)
    raise OctReadError(path, f"not a NIfTI file: it starts with {head[:4]!r}.")


def _claimed(path: Path, header: Any, stored: int | None = None) -> int:
    """Check the sizes in a header; return the bytes that the pixels take in the file."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) != 3:
        raise OctReadError(path, f"shape {shape}, expected three axes.")
    in_file = check_size(path, shape, header.get_data_dtype().itemsize, stored)
    if header.get_slope_inter() not in _UNSCALED:
        check_size(path, shape, 8)  # they become 64-bit floats
    return in_file


def _content(header: Any, stored: NDArray[np.uint8]) -> tuple[NDArray[Any], Spacing]:
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    flat = stored[: math.prod(shape) * dtype.itemsize].view(dtype)
    pixels = flat.reshape(shape, order="F").transpose(2, 1, 0)
    slope, shift = header.get_slope_inter()
    if (slope, shift) not in _UNSCALED:
        pixels = pixels * np.float64(slope) + np.float64(shift)
    pixels = np.array(pixels, pixels.dtype.newbyteorder("="), order="C")
    if header.get_xyzt_units()[0] != "mm":
        return pixels, Spacing()
    # pixdim is stored in 32 bits: seven digits
    lateral, axial, between = (float(f"{zoom:.7g}") for zoom in header.get_zooms()[:3])
    return pixels, Spacing(lateral, axial, between)
