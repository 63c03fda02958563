"""CUB_200_2011: `images.txt`, labels, official split and boxes in text files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ppi_med.data.photos.photo import TEST, TRAINING, Box, Photo, inside
from ppi_med.errors import MissingFileError, UsageError

FOLDER = "CUB_200_2011"
IMAGES, LABELS, SPLIT = "images.txt", "image_class_labels.txt", "train_test_split.txt"
BOXES, CLASSES = "bounding_boxes.txt", "classes.txt"
SITES = "sites.txt"
"""Our own: `<image_id> <site>`, of phantoms whose images were made under several conditions."""

T = TypeVar("T")


def cub_root(source: Path) -> Path | None:
    """Return the folder with `images.txt`: the one given or the one inside; None: no CUB."""
    return next((f for f in (source, source / FOLDER) if (f / IMAGES).is_file()), None)


def read_cub(source: str | Path) -> list[Photo]:
    """Read the data set; labels count from 0 in the order of the class ids that are there.

    Args:
        source: the folder `CUB_200_2011` or the one around it.

    Returns:
        One photograph per line of `images.txt`, in its order; the box as in `bounding_boxes.txt`,
        if there is one.

    Raises:
        MissingFileError: if a file is missing.
        UsageError: if a line is malformed, or an image has no label or part.
    """
    root = cub_root(Path(source))
    if root is None:
        raise MissingFileError(f"No {IMAGES} in {source}, expected the folder {FOLDER}.")
    files = _table(root / IMAGES, str)
    classes = _table(root / LABELS, int)
    is_training = _table(root / SPLIT, _flag)
    boxes = _table(root / BOXES, _box) if (root / BOXES).is_file() else {}
    sites = _table(root / SITES, str) if (root / SITES).is_file() else {}
    names = _table(root / CLASSES, str) if (root / CLASSES).is_file() else {}
    known = sorted({int(key) for key in names} or set(classes.values()))
    photos = []
    for image_id, file in files.items():
        if image_id not in classes or image_id not in is_training:
            raise UsageError(
                f"Image {image_id} of {root / IMAGES} is not in {LABELS} and {SPLIT}, expected a "
                "line in each: fetch the files again."
            )
        number = classes[image_id]
        if number not in known:
            raise UsageError(
                f"{LABELS} gives image {image_id} the class {number}, not in {CLASSES}."
            )
        relative = inside(file, IMAGES)
        photos.append(
            Photo(
                image=str(root / "images" / relative),
                name=relative.rsplit(".", 1)[0],
                label=known.index(number),
                class_name=names.get(str(number), str(number)),
                part=TRAINING if is_training[image_id] else TEST,
                boxes=(boxes[image_id],) if image_id in boxes else (),
                site=sites.get(image_id, ""),
            )
        )
    return photos


def _table(path: Path, value: Callable[[str], T]) -> dict[str, T]:
    """Read lines of an id and a value."""
    if not path.is_file():
        raise MissingFileError(f"No {path.name} in {path.parent}: fetch the data set again.")
    found: dict[str, T] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        key, _, rest = line.strip().partition(" ")
        try:
            found[key] = value(rest.strip())
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {line!r} is not as expected.") from error
    return found


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(text)
    return text == "1"


def _box(text: str) -> Box:
    x, y, width, height = (float(part) for part in text.split())
    return (y, x, y + height, x + width)
