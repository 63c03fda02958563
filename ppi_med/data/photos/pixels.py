"""From a reference in a datalist to the pixels of a photograph.

A reference is a path, or a path and a member after `::` if one file holds many images:

| reference | pixels |
| --- | --- |
| `birds/001.jpg` | the picture |
| `cifar10_train.zip::cat/0001.jpg` | a picture in an archive |
| `cifar-10-batches-py/data_batch_1::17` | row 17 of a batch of CIFAR |
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import MissingFileError, UsageError

LARGEST_FILE = 512 * 2**20


class _Dtype:
    """Stands for `numpy.dtype`: only bytes are allowed."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: Any) -> None:
        """Take byte order and the like, which bytes don't have."""


class _Array:
    """Stands for an array while its parts come in."""

    values: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or dtype.code != "u1" or fortran:
            raise pickle.UnpicklingError("an array that is not of bytes in rows")
        if isinstance(raw, str):  # protocol 0
            raw = raw.encode("latin1")
        self.values = np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    # How Python 3 writes bytes in the protocol of Python 2.
    ("_codecs", "encode"): _encode,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the name {module}.{name}") from None


def read_batch(path: str | Path) -> dict[str, Any]:
    """Return the content of a batch file of CIFAR, keys as text.

    Args:
        path: such as `cifar-10-batches-py/data_batch_1`.

    Returns:
        Plain lists, texts, numbers, and arrays of bytes.

    Raises:
        UsageError: if the file is not such a batch, or holds anything else.
    """
    path = Path(path)
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"{path} has {path.stat().st_size} bytes, expected a batch of CIFAR.")
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"a {type(content).__name__}")
        return {_text(key): _plain(value) for key, value in content.items()}
    except Exception as error:  # the bytes can raise anything in the unpickler
        raise UsageError(
            f"{path} is no batch of CIFAR (it holds {error}), expected the file of the python "
            "version as it was published: fetch it again."
        ) from error


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, list):
        return [_text(item) if isinstance(item, bytes) else item for item in value]
    return _text(value) if isinstance(value, bytes) else value


MEMBER = "::"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SIDE = 32

Pixels = NDArray[np.uint8]


def read_pixels(reference: str) -> Pixels:
    """Return a photograph's pixels `(H, W, 3)`, RGB of 0 to 255.

    Raises:
        MissingFileError: if the file is not there.
        UsageError: if it holds no such picture.
    """
    path, _, member = reference.partition(MEMBER)
    if not Path(path).is_file():
        raise MissingFileError(
            f"No file {path}: convert the data set again, or bring it back to where it was."
        )
    if not member:
        return _decoded(Path(path).read_bytes(), reference)
    if Path(path).suffix.lower() == ".zip":
        return _decoded(_member(path, member), reference)
    rows = batch_images(path)
    if not member.isdigit() or int(member) >= len(rows):
        raise UsageError(f"{path} has {len(rows)} images and no number {member}.")
    row: Pixels = rows[int(member)]
    return row


def picture_size(path: str) -> tuple[int, int]:
    """Return height and width of a picture in a file, without decoding it.

    Raises:
        UsageError: if it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except Exception as error:  # broken bytes fail in many ways
        raise UsageError(f"{path} cannot be read as a picture ({error}).") from error
    return height, width


@lru_cache(maxsize=8)
def batch_images(path: str) -> Pixels:
    """Return all images of a batch of CIFAR, `(N, 32, 32, 3)`.

    Raises:
        UsageError: if it holds none.
    """
    data = read_batch(path).get("data")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * _SIDE**2:
        raise UsageError(f"{path} holds no images of 32 x 32, expected a batch of CIFAR.")
    return np.ascontiguousarray(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


def archive(path: str) -> zipfile.ZipFile:
    """Return an archive, opened once per process: a forked process would share the file position.

    Raises:
        UsageError: if it cannot be read.
    """
    return _opened(path, os.getpid())


@lru_cache(maxsize=8)
def _opened(path: str, process: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UsageError(f"{path} is no whole zip archive ({error}): fetch it again.") from error


def _member(path: str, member: str) -> bytes:
    try:
        return archive(path).read(member)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise UsageError(f"{path} gives no {member!r} ({error}): fetch it again.") from error


def _decoded(content: bytes, reference: str) -> Pixels:
    from PIL import Image

    try:
        # Pillow refuses a picture that claims to be larger than its limit.
        with Image.open(io.BytesIO(content)) as picture:
            if picture.mode.startswith(("I", "F")):
                return _eight_bits(np.asarray(picture), reference)
            decoded: Any = picture.convert("RGB")
            return np.array(decoded, dtype=np.uint8)
    except UsageError:
        raise
    except Exception as error:  # broken bytes fail in many ways
        raise UsageError(f"{reference} cannot be read as a picture ({error}).") from error


def _eight_bits(values: NDArray[Any], reference: str) -> Pixels:
    """Return grey values of 16 bits as 8: divided by the smallest power of two that suffices."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" or low < 0 or high > 65535:
        raise UsageError(
            f"{reference} has the values {low:g} to {high:g} ({values.dtype}), expected whole "
            "numbers of 8 or 16 bits: convert it."
        )
    grey = (values >> max(int(high).bit_length() - 8, 0)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
