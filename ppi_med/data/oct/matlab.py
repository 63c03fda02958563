"""MATLAB files: Duke's `.mat` (v5 to v7 by our own reader, v7.3 through h5py).

Duke's volumes are one variable `images` (depth, width, B-scans). A file with one single
three-dimensional numeric variable of another name is read by the same rule.
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

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.prepare import to_unsigned
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import DEFLATE_RATIO, OctReadError, OctVolume, check_size

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
        place: start of its element (after the tag) in the file.
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
        OctReadError: if it is not a Level 5 file, truncated, or claims sizes that it cannot hold.
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
    """Read the beginning of an element; `None` if it is not a numeric array."""
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


NAME = "matlab"
DEFAULT_VARIABLE = "images"
DEFAULT_AXES = "dwn"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read the one volume of a `.mat` file; see `read_mat`."""
    return [
        read_mat(
            source.path,
            variable=options.variable,
            mask_variable=options.mask_variable,
            axes=options.axes,
            window=options.window,
        )
    ]


def read_mat(
    path: str | Path,
    *,
    variable: str | None = None,
    mask_variable: str | None = None,
    axes: str = DEFAULT_AXES,
    window: tuple[float, float] | None = None,
) -> OctVolume:
    """Read a volume from a MATLAB file.

    Args:
        path: the file; its first bytes distinguish v7.3 (HDF5) from older ones.
        variable: name of the volume; default `images`, else the only 3D numeric variable.
        mask_variable: name of a lesion mask of the same shape, or `None`.
        axes: order of the volume's axes: d(epth), w(idth), n (B-scans).
        window: two values that become 0 and 255, for pixels that are not whole numbers.

    Returns:
        The volume; spacing and laterality are unknown, since the format does not have them.

    Raises:
        OctReadError: if the file is damaged, holds no such variable, or claims absurd sizes.
    """
    path = Path(path)
    if sorted(axes) != ["d", "n", "w"]:
        raise ValueError(f"axes is {axes!r}, expected the letters d, w and n in some order.")
    with path.open("rb") as stream:
        head = stream.read(520)
    hdf5 = _HDF5_MAGIC in (head[:8], head[512:520]) or head.startswith(b"MATLAB 7.3")
    variables = {} if hdf5 else list_variables(path)
    shapes = _list_hdf5(path) if hdf5 else {n: v.shape for n, v in variables.items()}
    name = _choose(path, shapes, variable)
    wanted = [name, *([mask_variable] if mask_variable else [])]
    if mask_variable and mask_variable not in shapes:
        raise OctReadError(
            path, f"no variable {mask_variable!r} for the mask; there are {sorted(shapes)}."
        )
    if hdf5:
        arrays = _load_hdf5(path, wanted)
    else:
        arrays = {name: load_variable(path, variables[name]) for name in wanted}
    raw = arrays[name]
    order = [axes.index(letter) for letter in "ndw"]
    pixels, rule = to_unsigned(path, raw.transpose(order), window)
    mask = None
    if mask_variable:
        mask = _as_mask(path, arrays[mask_variable], raw.shape, mask_variable).transpose(order)
    volume = OctVolume(
        pixels, reader=NAME, source=path, mask=None if mask is None else np.ascontiguousarray(mask)
    )
    volume.meta = {"variable": name, "format": "7.3" if hdf5 else "5", "variables": sorted(shapes)}
    volume.provenance["axes"] = f"rule: {name} is read as {_spell(axes)}"
    if rule:
        volume.provenance["pixels"] = rule
    if raw.shape[axes.index("n")] != min(raw.shape):
        volume.warnings.append(
            f"{name} has the shape {raw.shape} and was read as {_spell(axes)}, though the B-scans' "
            "axis is not the shortest; check it, and give --axes if it is wrong."
        )
    return volume


def _spell(axes: str) -> str:
    words = {"d": "depth", "w": "width", "n": "B-scans"}
    return "(" + ", ".join(words[letter] for letter in axes) + ")"


def _choose(path: Path, shapes: dict[str, tuple[int, ...]], variable: str | None) -> str:
    """Return the variable that holds the volume."""
    if variable is not None:
        if variable not in shapes:
            raise OctReadError(path, f"no variable {variable!r}; there are {sorted(shapes)}.")
        if len(shapes[variable]) != 3:
            raise OctReadError(
                path, f"{variable!r} has the shape {shapes[variable]}, expected three axes."
            )
        return variable
    if len(shapes.get(DEFAULT_VARIABLE, ())) == 3:
        return DEFAULT_VARIABLE
    candidates = sorted(name for name, shape in shapes.items() if len(shape) == 3)
    if len(candidates) == 1:
        return candidates[0]
    found = f"several: {candidates}" if candidates else f"none among {sorted(shapes)}"
    raise OctReadError(
        path,
        f"expected {DEFAULT_VARIABLE!r} or one single 3D numeric variable, got {found}; "
        "name it with --variable.",
    )


def _list_hdf5(path: Path) -> dict[str, tuple[int, ...]]:
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name in file:
                if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                    continue  # a link could lead to another file
                item = file[name]
                if isinstance(item, h5py.Dataset) and item.dtype.kind in "uifb":
                    _check_dataset(path, name, item)
                    shapes[name] = tuple(reversed(item.shape))
    except OSError as error:
        raise OctReadError(path, f"truncated or damaged HDF5 ({_short(error)}).") from error
    return shapes


def _check_dataset(path: Path, name: str, item: Any) -> None:
    """Refuse pixels kept in other files, and sizes that the stored bytes cannot hold."""
    if item.is_virtual or item.external:
        raise OctReadError(path, f"{name!r} keeps its pixels in other files; copy them into one.")
    if 0 in item.shape or not item.shape:
        return
    check_size(path, item.shape, item.dtype.itemsize, item.id.get_storage_size() * DEFLATE_RATIO)


def _load_hdf5(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            # MATLAB counts columns first: HDF5 shows the axes in the opposite order.
            return {name: np.asarray(file[name][()]).T for name in names}
    except (OSError, KeyError) as error:
        raise OctReadError(path, f"truncated or damaged HDF5 ({_short(error)}).") from error


def _as_mask(
    path: Path, array: NDArray[Any], shape: tuple[int, ...], name: str
) -> NDArray[np.uint8]:
    if array.shape != shape:
        raise OctReadError(
            path, f"the mask {name!r} has the shape {array.shape}, expected the volume's {shape}."
        )
    return np.asarray(array != 0, dtype=np.uint8)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
