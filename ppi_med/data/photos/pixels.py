"""From a reference in a datalist to the pixels of a photograph.

A reference is a path, or a path and a member behind ``::`` where one file holds many images:

| reference | pixels |
| --- | --- |
| ``birds/001.jpg`` | the picture |
| ``cifar10_train.zip::cat/0001.jpg`` | a picture in an archive |
| ``cifar-10-batches-py/data_batch_1::17`` | row 17 of a batch of CIFAR |
"""

from __future__ import annotations

import io
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.photos.pickles import read_batch
from ppi_med.errors import MissingFileError, UsageError

MEMBER = "::"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SIDE = 32

Pixels = NDArray[np.uint8]


def read_pixels(reference: str) -> Pixels:
    """Return a photograph's pixels ``(H, W, 3)``, RGB of 0 to 255.

    Args:
        reference: see the module's table.

    Raises:
        MissingFileError: where the file is not there.
        UsageError: where it holds no such picture.
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
        UsageError: where it cannot be read.
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
    """Return all images of a batch of CIFAR, ``(N, 32, 32, 3)``.

    Raises:
        UsageError: where it holds none.
    """
    data = read_batch(path).get("data")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * _SIDE**2:
        raise UsageError(f"{path} holds no images of 32 x 32, expected a batch of CIFAR.")
    return np.ascontiguousarray(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


def archive(path: str) -> zipfile.ZipFile:
    """Return an archive, opened once in a process: a forked one would share the place in the file.

    Raises:
        UsageError: where it cannot be read.
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
        # A picture that says it is larger than Pillow's limit is refused there.
        with Image.open(io.BytesIO(content)) as picture:
            decoded: Any = picture.convert("RGB")
            return np.array(decoded, dtype=np.uint8)
    except Exception as error:  # broken bytes fail in many ways
        raise UsageError(f"{reference} cannot be read as a picture ({error}).") from error
