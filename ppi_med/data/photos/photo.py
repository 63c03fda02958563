"""One photograph of a data set, from any layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ppi_med.errors import UsageError

TRAINING, VALIDATION, TEST = "training", "validation", "test"

Box = tuple[float, float, float, float]
"""First pixel of each axis, then the first one after the box: y0, x0, y1, x1."""


@dataclass(frozen=True)
class Photo:
    """A photograph.

    Attributes:
        image: where its pixels are, see `ppi_med.data.photos.pixels.read_pixels`.
        name: unique in the data set.
        label: class index from 0.
        class_name: name of that index.
        part: `training`, `test`, or `validation` where the source gives one.
        boxes: boxes of the object, in pixels of the file.
        site: group of images with its own condition; empty if there is only one.
        patient: the patient; parts keep a patient's images together. Empty if unknown.
    """

    image: str
    name: str
    label: int
    class_name: str = ""
    part: str = TEST
    boxes: tuple[Box, ...] = field(default=())
    site: str = ""
    patient: str = ""


def inside(name: str, where: str) -> str:
    """Return a relative path from a list of files, refusing one that leads out of its folder.

    Raises:
        UsageError: if it is absolute or climbs.

    Examples:
        >>> inside("001.Albatross/a.jpg", "images.txt")
        '001.Albatross/a.jpg'
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UsageError(
            f"{where} names {name!r}, expected a path inside the data set's folder: correct the "
            "line or fetch the file again."
        )
    return str(path)
