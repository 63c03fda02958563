"""Decoding the pixels of one file, compressed or not; what cannot be decoded says why."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.deflated import InflatedSizeError, check_inflated_size
from ppi_med.data.dicom.pixel_element import pixel_problem
from ppi_med.data.dicom.quiet import quiet
from ppi_med.data.dicom.tree import ArchiveError, DicomFile, Opener
from ppi_med.data.dicom.values import real_values, stored_values

# Of JPEG and JPEG-LS: the segments that name the precision.
_FRAME_STARTS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), 0xF7)
_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class PixelError(ValueError):
    """Pixels that cannot be had; `reason` says why, without the file's name."""

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
        sha256: of the file.
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
    except Exception as error:  # decoders and parsers raise all sorts of errors on damaged files
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
    # pydicom clears unused bits in some transfer syntaxes only, and takes no note of HighBit.
    dataset.pixel_array_options(correct_unused_bits=False)
    pixels = dataset.pixel_array
    raw = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False))
    return stored_values(raw, dataset, _precision(dataset))


@lru_cache(maxsize=64)
def syntax_problem(syntax: str) -> str:
    """Return why nothing of a transfer syntax can be decoded here, or "".

    Args:
        syntax: its UID; "" is taken for little endian with implicit types.
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
    """Return the bits of a sample that a stream of the JPEG family names, None for others."""
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
