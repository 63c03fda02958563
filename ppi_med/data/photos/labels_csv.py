"""Pictures in `images/` with `labels.csv`: class index and boxes, one line a box."""

from __future__ import annotations

import csv
from pathlib import Path

from ppi_med.data.photos.photo import Box, Photo, inside
from ppi_med.errors import UsageError

LABELS = "labels.csv"
_IMAGES = "images"
_REQUIRED = ("file", "class_index")
_BOX = ("y0", "x0", "y1", "x1")


def read_labels_csv(source: str | Path) -> list[Photo]:
    """Read the pictures of a table; all are test images.

    Args:
        source: folder with ``labels.csv`` (columns file, class_index, and where known class_name,
            x0, y0, x1, y1 in pixels of the file) and ``images/``.

    Raises:
        UsageError: where a column is missing, a value is no number, or one file has two classes.
    """
    path = Path(source) / LABELS
    found: dict[str, Photo] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"{path} lacks the columns {missing}, expected {list(_REQUIRED)}.")
        for row in reader:
            try:
                photo = _photo(path, row)
            except ValueError as error:
                raise UsageError(f"{path}, line {reader.line_num}: {error}") from error
            known = found.get(photo.name)
            if known is not None and known.label != photo.label:
                raise UsageError(f"{path}: {row['file']} has two classes, expected one.")
            boxes = (*known.boxes, *photo.boxes) if known is not None else photo.boxes
            found[photo.name] = Photo(
                photo.image, photo.name, photo.label, photo.class_name, boxes=boxes
            )
    return list(found.values())


def _photo(path: Path, row: dict[str, str]) -> Photo:
    if any(row[name] is None for name in _REQUIRED):
        raise ValueError(f"too few cells, expected at least those of {list(_REQUIRED)}.")
    # The paths are those in the folder, or those in its images/.
    file = inside(row["file"], path.name).removeprefix(f"{_IMAGES}/")
    boxes: tuple[Box, ...] = ()
    if all(row.get(name) for name in _BOX):
        y0, x0, y1, x1 = (float(row[name]) for name in _BOX)
        boxes = ((y0, x0, y1, x1),)
    return Photo(
        image=str(path.parent / _IMAGES / file),
        name=file.rsplit(".", 1)[0],
        label=int(row["class_index"]),
        class_name=row.get("class_name") or row["class_index"],
        boxes=boxes,
    )
