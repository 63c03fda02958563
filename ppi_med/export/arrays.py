"""Maps and masks from outside: what an array has to be, and how a file of one is read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.export.source import Source

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
        ValueError: for another shape, or other values: a threshold is the user's to choose.
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
            f"the map has {int((~np.isfinite(found)).sum())} values that are no numbers of 32 bits "
            "(NaN, infinite or too large): a viewer could not show it."
        )
    return found


def read_map(path: str | Path, source: Source) -> NDArray[np.float32]:
    """Read a map of a series, see `as_map`, from a `.npy` or a `.npz` of one array.

    Type and shape are looked at before any value is read.

    Raises:
        MissingFileError: if there is no such file.
        UsageError: naming the file, for what is no map of the series.
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
    # Before any memory is taken: a header may claim more than there is.
    source.check(shape, what)
    _check_kind(dtype, what, "expected bool or numbers")
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    content = stream.read(size)
    if len(content) != size:
        raise ValueError(f"the file ends after {len(content)} of {size} bytes of the {what}.")
    if stream.read(1):
        raise ValueError(f"there is more in the file than the {what} that its header tells of.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream: BinaryIO, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError) as error:
        raise ValueError(f"no .npy or .npz of numpy, expected one with the {what}.") from error
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
