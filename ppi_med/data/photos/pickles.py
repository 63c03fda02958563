"""CIFAR's python batches, read by an unpickler that can build nothing but their arrays.

A pickle may name any function of the machine to be called while it is read. Here every name is
refused but the three that a numpy array is written with, and these are stand-ins of our own: what
they are given is looked at before an array is made from it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError

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
    """Return what a batch file of CIFAR holds, keys as text.

    Args:
        path: such as ``cifar-10-batches-py/data_batch_1``.

    Returns:
        Plain lists, texts, numbers, and arrays of bytes.

    Raises:
        UsageError: where the file is no such batch, or holds anything that a batch does not.
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
    except Exception as error:  # the unpickler raises whatever the bytes lead it to
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
