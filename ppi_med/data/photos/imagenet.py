"""The ImageNet validation set: a folder of pictures, labels, and boxes in XML."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from ppi_med.data.photos.photo import Box, Photo
from ppi_med.data.photos.pixels import picture_size
from ppi_med.errors import MissingFileError, UsageError

SOLUTION = "LOC_val_solution.csv"
SYNSETS = ("LOC_synset_mapping.txt", "synset_words.txt", "synsets.txt")
_WNID = re.compile(r"n\d{8}")
_CLASSES = 1000
_PICTURE = (".jpeg", ".jpg", ".png")
_BOX_FOLDERS = ("bbox/val", "val_bbox", "Annotations/CLS-LOC/val", "Annotations/val", "bbox")


def is_imagenet(source: Path) -> bool:
    """Say whether a folder is a validation set: one folder per wnid, or a solution file."""
    return (source / SOLUTION).is_file() or bool(_wnid_folders(_val(source)))


def read_imagenet(source: str | Path, boxes: str | Path | None = None) -> list[Photo]:
    """Read a validation set; the label is the rank of the wnid among all 1,000.

    Args:
        source: with `val/` of one folder a wnid, or flat with `LOC_val_solution.csv`. Where
            fewer than 1,000 wnids have a folder a list of all (`LOC_synset_mapping.txt`,
            `synset_words.txt` or `synsets.txt`, a wnid at the start of each line) is needed.
        boxes: folder of the XML files; default the usual places inside.

    Raises:
        MissingFileError: if labels or the list of classes are not there.
        UsageError: if a file cannot be read.
    """
    source = Path(source)
    found = _labelled(source)
    numbers = {wnid: i for i, wnid in enumerate(_wnids(source, {w for _, w in found}))}
    folder = Path(boxes) if boxes is not None else _box_folder(source)
    photos = []
    for path, wnid in found:
        if wnid not in numbers:
            raise UsageError(f"{path.name} has the class {wnid}, which the list of classes lacks.")
        annotation = None if folder is None else _annotation(folder, wnid, path.stem)
        photos.append(
            Photo(
                image=str(path),
                name=path.stem,
                label=numbers[wnid],
                class_name=wnid,
                boxes=() if annotation is None else read_boxes(annotation, str(path)),
            )
        )
    return photos


def read_boxes(annotation: Path, image: str) -> tuple[Box, ...]:
    """Return the boxes of an annotation in pixels of the picture as it is now.

    Boxes are scaled where the annotation says another size than the picture has. An entity of
    any kind in the XML is refused.

    Raises:
        UsageError: if the file is no annotation.
    """
    from defusedxml import ElementTree

    try:
        root = ElementTree.parse(annotation).getroot()
        width, height = (float(root.findtext(f"size/{name}")) for name in ("width", "height"))
        if not (width > 0 and height > 0):
            raise ValueError(f"its size is {width:g} x {height:g}")
        corners = [_corners(node) for node in root.iter("bndbox")]
    except Exception as error:  # the parser has its own error for each attack
        raise UsageError(
            f"{annotation} is no annotation of ImageNet ({type(error).__name__}: {error})."
        ) from error
    rows, columns = picture_size(image)
    down, right = rows / height, columns / width
    return tuple((y0 * down, x0 * right, y1 * down, x1 * right) for y0, x0, y1, x1 in corners)


def _corners(node: Any) -> Box:
    y0, x0, y1, x1 = (float(node.findtext(name)) for name in ("ymin", "xmin", "ymax", "xmax"))
    return (y0, x0, y1, x1)


def _val(source: Path) -> Path:
    return source / "val" if (source / "val").is_dir() else source


def _wnid_folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.glob("n*") if f.is_dir() and _WNID.fullmatch(f.name))


def _labelled(source: Path) -> list[tuple[Path, str]]:
    val = _val(source)
    folders = _wnid_folders(val)
    if folders:
        return [
            (file, folder.name)
            for folder in folders
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in _PICTURE
        ]
    solution = source / SOLUTION
    if not solution.is_file():
        raise MissingFileError(
            f"No labels in {source}, expected one folder a wnid in val/, or {SOLUTION}: the "
            "devkit's ground truth file counts classes in another order."
        )
    with solution.open(newline="", encoding="utf-8") as file:
        rows = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    pictures = sorted(f for f in val.glob("*") if f.suffix.lower() in _PICTURE)
    return [(path, rows[path.stem]) for path in pictures if path.stem in rows]


def _wnids(source: Path, there: set[str]) -> list[str]:
    if len(there) == _CLASSES:
        return sorted(there)
    for name in SYNSETS:
        if (source / name).is_file():
            lines = (source / name).read_text(encoding="utf-8").splitlines()
            return sorted({m.group() for line in lines if (m := _WNID.match(line.strip()))})
    raise MissingFileError(
        f"{source} has {len(there)} of 1,000 classes, so their numbers are unknown: put a list of "
        f"all wnids beside it as {SYNSETS[0]}."
    )


def _box_folder(source: Path) -> Path | None:
    return next((source / name for name in _BOX_FOLDERS if (source / name).is_dir()), None)


def _annotation(folder: Path, wnid: str, stem: str) -> Path | None:
    return next(
        (p for p in (folder / f"{stem}.xml", folder / wnid / f"{stem}.xml") if p.is_file()), None
    )
