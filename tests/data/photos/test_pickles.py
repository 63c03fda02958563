"""CIFAR's unpickler runs nothing, whatever a file asks for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.data.photos.pixels import read_batch
from ppi_med.errors import UsageError


class Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def written(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def test_arrays_come_back(tmp_path: Path) -> None:
    data = np.arange(24, dtype=np.uint8).reshape(4, 6)
    content = read_batch(written(tmp_path / "b", {b"data": data, b"labels": [1, 2], b"n": [b"x"]}))
    assert np.array_equal(content["data"], data)
    assert content["labels"] == [1, 2] and content["n"] == ["x"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "function", [os.mkdir, eval, getattr, __import__, np.load, np.frombuffer, print]
)
def test_no_function_is_called(tmp_path: Path, function: Any, protocol: int) -> None:
    made = tmp_path / "made"
    evil = {b"data": Calls(function, str(made))}
    with pytest.raises(UsageError, match="the name"):
        read_batch(written(tmp_path / "b", evil, protocol))
    assert not made.exists()


@pytest.mark.parametrize(
    "data",
    [np.array([{}], dtype=object), np.zeros((2, 2)), np.asfortranarray(np.zeros((2, 3), np.uint8))],
    ids=["objects", "floats", "columns"],
)
def test_other_arrays_are_refused(tmp_path: Path, data: np.ndarray) -> None:
    with pytest.raises(UsageError, match="array"):
        read_batch(written(tmp_path / "b", {b"data": data}))


@pytest.mark.parametrize("content", [b"", b"no pickle at all", b"\x80\x02]q\x00."])
def test_files_that_are_no_batch(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="data_batch_1 is no batch"):
        read_batch(path)
