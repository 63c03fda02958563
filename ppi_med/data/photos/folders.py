"""Image folders: `<part>/<class>/<file>`, or an archive of `<class>/<file>` for each part."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ppi_med.data.image_table import patient_of
from ppi_med.data.photos.photo import TEST, TRAINING, Box, Photo, inside
from ppi_med.data.photos.pixels import MEMBER, SUFFIXES, archive
from ppi_med.errors import UsageError

LABELS = "labels.csv"
_IMAGES = "images"
_REQUIRED = ("file", "class_index")
_BOX = ("y0", "x0", "y1", "x1")


def read_labels_csv(source: str | Path) -> list[Photo]:
    """Read the pictures of a table; all are test images.

    Args:
        source: folder with `labels.csv` (columns file, class_index, and where known class_name,
            x0, y0, x1, y1 in pixels of the file) and `images/`.

    Raises:
        UsageError: if a column is missing, a value is no number, or one file has two classes.
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


_MACOS = "__MACOSX"
"""Folder that macOS adds to its archives; it is skipped like hidden files."""

_TRAINING, _TEST = ("train", "training"), ("test", "val", "validation")


def image_folders(source: Path) -> dict[str, Path]:
    """Return the folders or archives of the existing parts.

    A part is a folder such as `train`, or an archive whose name ends so, such as
    `cifar10_train.zip`.
    """
    found: dict[str, Path] = {}
    for part, names in ((TRAINING, _TRAINING), (TEST, _TEST)):
        for name in names:
            folder, archives = source / name, sorted(source.glob(f"*{name}.zip"))
            if part not in found and folder.is_dir() and any(p.is_dir() for p in folder.iterdir()):
                found[part] = folder
            elif part not in found and archives:
                found[part] = archives[0]
    return found


def read_folders(source: str | Path) -> list[Photo]:
    """Read image folders; classes are numbered in the order of their names, over all parts.

    Args:
        source: the folder with `train` and `test` (or `val`), or with one archive of each.

    Raises:
        UsageError: if no class with a picture is found.
    """
    source = Path(source)
    listed = {part: list(_listed(path)) for part, path in image_folders(source).items()}
    classes = sorted({name.split("/")[0] for files in listed.values() for _, name in files})
    if not classes:
        raise UsageError(
            f"No pictures in {source}, expected train/<class>/<file> and test/<class>/<file>, or "
            "an archive of each such as train.zip."
        )
    number = {name: index for index, name in enumerate(classes)}
    return [
        Photo(
            image=reference,
            name=f"{part}/{name.rsplit('.', 1)[0]}",
            label=number[name.split("/")[0]],
            class_name=name.split("/")[0],
            part=part,
            patient=patient_of(name),
        )
        for part, files in listed.items()
        for reference, name in files
    ]


def _listed(path: Path) -> Iterable[tuple[str, str]]:
    """Yield reference and `<class>/<file>` of each picture that is not hidden, sorted."""
    if path.is_dir():
        for file in sorted(path.glob("*/**/*")):
            name = PurePosixPath(file.relative_to(path).as_posix())
            if _is_picture(name) and file.is_file():
                yield str(file), str(name)
        return
    for member in sorted(archive(str(path)).namelist()):
        name = PurePosixPath(inside(member, path.name))
        if _is_picture(name) and len(name.parts) >= 2:
            yield f"{path}{MEMBER}{member}", str(name)


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == _MACOS for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden
