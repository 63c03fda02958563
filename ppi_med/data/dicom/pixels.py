"""Decoding the pixels of one file, compressed or not; what cannot be decoded says why."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.deflated import InflatedSizeError, check_inflated_size
from ppi_med.data.dicom.pixel_element import pixel_problem
from ppi_med.data.dicom.quiet import quiet
from ppi_med.data.dicom.rescale import INTERCEPT, SLOPE, rescale_holders
from ppi_med.data.dicom.tree import ArchiveError, DicomFile, Opener

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
        dataset: pydicom's data set.
        sha256: of the file.
    """

    stored: NDArray[Any]
    dataset: Any
    sha256: str


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
            stored = _decoded(dataset, file, syntax)
            return Slice(stored, dataset, hashlib.sha256(content).hexdigest())
    except PixelError:
        raise
    except InflatedSizeError as error:
        raise PixelError(file.name, str(error)) from error
    except (OSError, ArchiveError) as error:
        raise PixelError(file.name, f"cannot be read ({type(error).__name__})") from error
    except Exception as error:  # decoders and parsers raise all sorts of errors on damaged files
        reason = f"the pixels are damaged ({type(error).__name__})"
        raise PixelError(file.name, reason) from error


def to_hounsfield(stored: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Return stored value x slope + intercept: whole numbers where both are, else float64.

    Args:
        stored: as decoded; where frames are rescaled each in its own way, they are the first axis.
        dataset: of the file. Slope and intercept are a frame's own, those all frames share, or the
            file's, in this order.

    Raises:
        ValueError: if slope or intercept are no numbers, or not one a frame.
    """
    slopes = [float(holder.get(SLOPE, 1) or 1) for holder in rescale_holders(dataset, SLOPE)]
    intercepts = [
        float(holder.get(INTERCEPT, 0) or 0) for holder in rescale_holders(dataset, INTERCEPT)
    ]
    pairs = list(zip(slopes, intercepts, strict=True))
    if len(set(pairs)) == 1:
        return _rescaled(stored, *pairs[0])
    return np.stack([_rescaled(frame, *pair) for frame, pair in zip(stored, pairs, strict=True)])


def _rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    if slope == 1 and intercept.is_integer() and stored.dtype.kind in "iu":
        return np.asarray(stored.astype(np.int32) + np.int32(intercept))
    return np.asarray(stored.astype(np.float64) * slope + intercept)


def _decoded(dataset: Any, file: DicomFile, syntax: str) -> NDArray[Any]:
    if not any(name in dataset for name in _ELEMENTS):
        raise PixelError(file.name, "no pixel data")
    if not syntax:
        # Without file meta information the group of the transfer syntax is missing as well.
        from pydicom.uid import ImplicitVRLittleEndian

        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    elif not _can_decode(syntax):
        raise PixelError(file.name, f"transfer syntax {syntax} not supported{_advice(syntax)}")
    pixels = dataset.pixel_array
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False))


def _can_decode(syntax: str) -> bool:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    if uid.is_transfer_syntax and not uid.is_compressed:
        return True
    try:
        return bool(get_decoder(uid).is_available)
    except NotImplementedError:
        return False


def _advice(syntax: str) -> str:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    try:
        get_decoder(UID(syntax))
    except NotImplementedError:
        return ""
    return ": its decoder is in the extra 'dicom' (pip install 'ppi_med[dicom]')"
