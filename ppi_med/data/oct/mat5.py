"""MATLAB's Level 5 MAT-file, numeric arrays only, for files that are not to be trusted.

SciPy's reader can crash the process on a damaged file, and inference reads in its own process;
this one takes no size on trust. It reads
what `save` writes by default (v5, and v7 with its Deflate): a header of 128 bytes, then elements
of a tag (type, length) and data. Cells, structs, objects, text and sparse arrays are skipped.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.volume import DEFLATE_RATIO, OctReadError, check_size

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x0800
_HEAD_BYTES = 4096
"""Flags, sizes and name of a variable are within so many bytes."""
_MOST_VARIABLES = 10_000

Order = Literal["<", ">"]


@dataclass(frozen=True)
class Variable:
    """A numeric array of a file, not loaded yet.

    Attributes:
        name: as in MATLAB.
        shape: sizes, MATLAB's first axis first.
        dtype: as stored, which may be narrower than MATLAB's class.
        place: where its element (behind the tag) begins in the file.
        length: bytes of the element in the file.
        compressed: whether the element is a zlib stream.
        offset: offset of the values within the (unpacked) element.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    place: int
    length: int
    compressed: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def list_variables(path: Path) -> dict[str, Variable]:
    """Return the numeric arrays of a file without loading them.

    Raises:
        OctReadError: if it is no Level 5 file, truncated, or claims sizes that it cannot hold.
    """
    size = path.stat().st_size
    found: dict[str, Variable] = {}
    with path.open("rb") as stream:
        order = _order(path, stream.read(_HEADER))
        place = _HEADER
        for _ in range(_MOST_VARIABLES):
            if place >= size:
                return found
            stream.seek(place)
            tag = stream.read(8)
            if len(tag) < 8:
                raise OctReadError(path, f"truncated: {len(tag)} bytes where a variable begins.")
            kind, length = struct.unpack(f"{order}2I", tag)
            if kind not in (_MATRIX, _COMPRESSED):
                raise OctReadError(path, f"damaged: an element of type {kind} at byte {place}.")
            if length > size - place - 8:
                raise OctReadError(
                    path,
                    f"truncated: a variable of {length} bytes, but {size - place - 8} are left.",
                )
            variable = _describe(path, stream, order, place + 8, length, kind == _COMPRESSED)
            if variable is not None:
                found[variable.name] = variable
            place += 8 + length
    raise OctReadError(path, f"more than {_MOST_VARIABLES} variables.")


def load_variable(path: Path, variable: Variable) -> NDArray[Any]:
    """Return the values, in MATLAB's order of axes.

    Raises:
        OctReadError: if the bytes cannot be unpacked or are too few.
    """
    with path.open("rb") as stream:
        stream.seek(variable.place)
        if variable.compressed:
            packed = stream.read(variable.length)
            data = _inflate(path, packed, variable.offset + variable.nbytes, to_the_end=True)
        else:
            data = stream.read(variable.offset + variable.nbytes)
    values = data[variable.offset :]
    if len(values) < variable.nbytes:
        raise OctReadError(
            path,
            f"truncated: {variable.name} has {len(values)} bytes, expected {variable.nbytes}.",
        )
    array = np.frombuffer(values, variable.dtype, math.prod(variable.shape))
    return array.reshape(variable.shape, order="F")


def _order(path: Path, head: bytes) -> Order:
    if len(head) == _HEADER:
        if head[126:128] == b"IM":
            return "<"
        if head[126:128] == b"MI":
            return ">"
    raise OctReadError(
        path, "not a MATLAB file of version 5 to 7.3 (older ones: save them again with -v7)."
    )


def _describe(
    path: Path, stream: BinaryIO, order: Order, place: int, length: int, compressed: bool
) -> Variable | None:
    """Read the beginning of an element; `None` for what is no numeric array."""
    if compressed:
        packed = stream.read(min(length, _HEAD_BYTES))
        head = _inflate(path, packed, _HEAD_BYTES)
        if len(head) < 8 or struct.unpack(f"{order}I", head[:4])[0] != _MATRIX:
            raise OctReadError(path, f"damaged: no array in the packed element at byte {place}.")
        start = 8
    else:
        head, start = stream.read(min(length, _HEAD_BYTES)), 0
    try:
        kind, begin, n_bytes, after = _element(head, start, order)
        flags = struct.unpack_from(f"{order}I", head, begin)[0]
        if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX or kind != 6:
            return None
        kind, begin, n_bytes, after = _element(head, after, order)
        shape = struct.unpack_from(f"{order}{n_bytes // 4}i", head, begin)
        kind, begin, n_bytes, after = _element(head, after, order)
        name = head[begin : begin + n_bytes].decode("latin-1")
        if 0 in shape:
            return None
        kind, begin, n_bytes, after = _element(head, after, order)
    except (struct.error, IndexError) as error:
        raise OctReadError(
            path, f"damaged: the array at byte {place} has no whole head."
        ) from error
    if kind not in _DTYPES:
        raise OctReadError(path, f"damaged: {name!r} has values of type {kind}.")
    dtype = np.dtype(order + _DTYPES[kind])
    stored = length * DEFLATE_RATIO if compressed else length - begin
    total = check_size(path, shape, dtype.itemsize, stored)
    if total != n_bytes:
        raise OctReadError(
            path, f"damaged: {name!r} has {n_bytes} bytes, expected {total} for {shape}."
        )
    return Variable(name, tuple(shape), dtype, place, length, compressed, begin)


def _element(data: bytes, place: int, order: Order) -> tuple[int, int, int, int]:
    """Return type, begin, length of the element at `place`, and where the next one is."""
    kind, length = struct.unpack_from(f"{order}2I", data, place)
    if kind >> 16:  # up to four bytes are in the tag itself
        return kind & 0xFFFF, place + 4, min(kind >> 16, 4), place + 8
    return kind, place + 8, length, place + 8 + -(-length // 8) * 8


def _inflate(path: Path, packed: bytes, most: int, to_the_end: bool = False) -> bytes:
    """Unpack at most `most` bytes; at the end of the data zlib compares its checksum."""
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(packed, most)
        if to_the_end and not unpack.eof:
            unpack.decompress(unpack.unconsumed_tail, _HEAD_BYTES)
            if not unpack.eof:
                raise OctReadError(path, "truncated or damaged: its data have no end.")
        return content
    except zlib.error as error:
        raise OctReadError(path, f"truncated or damaged ({error}).") from error
