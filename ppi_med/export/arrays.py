"""Maps and masks as arrays: checking, reading files, writing NIfTI."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.export.source import Source
from ppi_med.io import atomic_path

Kind = TypeVar("Kind", bound=np.generic)
Checked = Callable[[NDArray[Any], Source], NDArray[Kind]]
_DAMAGED = (
    *(OSError, ValueError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)


def as_mask(values: NDArray[Any], source: Source) -> NDArray[np.bool_]:
    """Return a mask of a series as bool.

    Args:
        values: `(slices, rows, columns)`, bool, or numbers that are only 0 and 1.
        source: the series.

    Raises:
        ValueError: for another shape or other values: the user must choose the threshold.
    """
    source.check(values.shape, "mask")
    if values.dtype == bool:
        return np.ascontiguousarray(values)
    _check_kind(values.dtype, "mask", "expected bool, or only 0 and 1")
    if not ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"the mask is {values.dtype.name} with {_range(values)}, expected bool, or only 0 and "
            "1: set a threshold first, or choose one label."
        )
    return values.astype(bool, order="C")


def as_map(values: NDArray[Any], source: Source) -> NDArray[np.float32]:
    """Return a map of a series as 32-bit floats.

    Args:
        values: `(slices, rows, columns)`, numbers.
        source: the series.

    Raises:
        ValueError: for another shape or type, or values that are not finite in 32 bits.
    """
    source.check(values.shape, "map")
    if values.dtype == bool:
        raise ValueError("the map is bool, expected numbers: is it the mask?")
    _check_kind(values.dtype, "map", "expected numbers")
    with np.errstate(over="ignore"):
        found = values.astype(np.float32, order="C")
    if not np.isfinite(found).all():
        raise ValueError(
            f"the map has {int((~np.isfinite(found)).sum())} values that are not 32-bit numbers "
            "(NaN, infinite or too large): a viewer could not show it."
        )
    return found


def read_map(path: str | Path, source: Source) -> NDArray[np.float32]:
    """Read a map of a series, see `as_map`, from a `.npy` or a `.npz` of one array.

    Type and shape are checked before any value is read.

    Raises:
        MissingFileError: if there is no such file.
        UsageError: naming the file, if it is not a map of the series.
    """
    return _read(path, source, "map", as_map)


def read_mask(path: str | Path, source: Source) -> NDArray[np.bool_]:
    """Read a mask of a series, see `as_mask`; otherwise like `read_map`."""
    return _read(path, source, "mask", as_mask)


def _read(path: str | Path, source: Source, what: str, check: Checked[Kind]) -> NDArray[Kind]:
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no {path}, expected a .npy file with the {what}.")
    try:
        with path.open("rb") as stream:
            archive = stream.read(4) == b"PK\x03\x04"
            stream.seek(0)
            read = _from_archive if archive else _from_stream
            return check(read(stream, source, what), source)
    except _DAMAGED as error:
        raise UsageError(f"{path}: {_one_line(error, what)}") from error


def _from_archive(file: BinaryIO, source: Source, what: str) -> NDArray[Any]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(names) != 1:
            arrays = ", ".join(name.removesuffix(".npy") for name in names) or "none"
            raise ValueError(f"it holds {len(names)} arrays ({arrays}), expected one {what}.")
        with archive.open(names[0]) as stream:
            return _from_stream(stream, source, what)


def _from_stream(stream: Any, source: Source, what: str) -> NDArray[Any]:
    shape, fortran, dtype = _header(stream, what)
    # Before memory is allocated: a header may claim more than there is.
    source.check(shape, what)
    _check_kind(dtype, what, "expected bool or numbers")
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    content = stream.read(size)
    if len(content) != size:
        raise ValueError(f"the file ends after {len(content)} of {size} bytes of the {what}.")
    if stream.read(1):
        raise ValueError(f"there is more in the file than the {what} of its header.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream: BinaryIO, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError) as error:
        raise ValueError(f"not a .npy or .npz of numpy, expected one with the {what}.") from error
    return tuple(shape), bool(fortran), dtype


def _check_kind(dtype: np.dtype[Any], what: str, expected: str) -> None:
    if dtype.kind not in "biuf":
        raise ValueError(f"the {what} is {dtype.name}, {expected}.")


def _range(values: NDArray[Any]) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no number"
    text = f"values from {finite.min():g} to {finite.max():g}"
    return text if finite.size == values.size else f"{text} and NaN or infinity"


def _one_line(error: Exception, what: str) -> str:
    text = " ".join(str(error).split())
    return text or f"the {what} cannot be read ({type(error).__name__})."


def write_nifti(path: str | Path, values: NDArray[Any], source: Source) -> Path:
    """Write an array of a series so that it fits the series in every viewer.

    Axes are column, row, slice; the affine is the series', with DICOM's left and back converted to
    NIfTI's right and front.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        values: bool, written as uint8, or float, written as float32; `(slices, rows, columns)`.
        source: the series.

    Returns:
        The path.

    Raises:
        ValueError: for an array of another shape.
    """
    image = nifti_image(values, source)
    with atomic_path(path) as temporary:
        image.to_filename(temporary)
    return Path(path)


def nifti_image(values: NDArray[Any], source: Source) -> Any:
    """Return what `write_nifti` writes, as nibabel's image."""
    source.check(values.shape, "array")
    nib: Any = import_module("nibabel")
    kind = np.uint8 if values.dtype == bool else np.float32
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ source.volume.affine
    image = nib.Nifti1Image(values.astype(kind).transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    # 1: the scanner's coordinates.
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image
