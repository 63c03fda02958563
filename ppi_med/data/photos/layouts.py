"""Which layout a folder of photographs has, and reading it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ppi_med.data.image_table import (
    ImageTable,
    class_folders,
    class_order,
    find_image_table,
    read_class_folders,
    read_image_table,
)
from ppi_med.data.photos.cifar import cifar_root, read_cifar
from ppi_med.data.photos.cub import cub_root, read_cub
from ppi_med.data.photos.folders import LABELS, image_folders, read_folders, read_labels_csv
from ppi_med.data.photos.imagenet import is_imagenet, read_imagenet
from ppi_med.data.photos.photo import TRAINING, Photo
from ppi_med.data.photos.pixels import SUFFIXES
from ppi_med.errors import MissingFileError, UsageError, require_known

logger = logging.getLogger(__name__)


def read_table(folder: Path, label: str = "") -> list[Photo]:
    """Read the images of a CSV: NIH, CheXpert, ISIC, or image, label, patient and site."""
    table = folder if folder.is_file() else find_image_table(folder)
    if table is None:
        raise UsageError(f"{folder} has no CSV with a column of images.")
    found = read_image_table(table, label)
    for note in found.notes:
        logger.warning("%s: %s", table.name, note)
    return _photos(table.parent, found)


def read_classes(folder: Path) -> list[Photo]:
    """Read images in a folder for each class, such as Kermany's."""
    return _photos(folder, read_class_folders(folder))


def _photos(folder: Path, table: ImageTable) -> list[Photo]:
    other = [i.image.name for i in table.images if i.image.suffix.lower() not in SUFFIXES]
    if other:
        raise UsageError(
            f"{other[0]} is no photograph: these bundles read {', '.join(SUFFIXES)}; write DICOM "
            "and volumes as PNG first."
        )
    classes = sorted({image.label for image in table.images}, key=class_order)
    return [
        Photo(
            image=str(image.image),
            name=image.image.relative_to(folder).with_suffix("").as_posix(),
            label=classes.index(image.label),
            class_name=image.label,
            part=image.part or TRAINING,
            site=image.site,
            patient=image.patient,
        )
        for image in table.images
    ]


# The first one that recognises the folder is used, so special layouts come first.
_LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], list[Photo]]]] = {
    "cub": (lambda f: cub_root(f) is not None, read_cub),
    "cifar": (lambda f: cifar_root(f) is not None, read_cifar),
    "labels_csv": (lambda f: (f / LABELS).is_file(), read_labels_csv),
    "table": (lambda f: find_image_table(f) is not None, read_table),
    "imagenet": (is_imagenet, read_imagenet),
    "folders": (lambda f: bool(image_folders(f)), read_folders),
    "classes": (lambda f: bool(class_folders(f)), read_classes),
}
LAYOUTS = tuple(_LAYOUTS)
AUTO = "auto"


def find_layout(source: str | Path) -> str:
    """Return the name of a folder's layout.

    Raises:
        MissingFileError: if the folder is not there.
        UsageError: if it has no known layout.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no folder, expected that of a data set.")
    for name, (fits, _) in _LAYOUTS.items():
        if fits(folder):
            return name
    raise UsageError(
        f"{folder} has no layout that is known, expected CUB_200_2011 (images.txt), CIFAR's python "
        "batches, labels.csv with images/, a CSV of image, label, patient and site, ImageNet's "
        "val/ with a folder a wnid, train/ and test/ with a folder a class, or a folder a class."
    )


def read_photos(source: str | Path, layout: str = AUTO, label: str = "") -> list[Photo]:
    """Read a folder of photographs.

    Args:
        source: the folder.
        layout: `cub`, `cifar`, `labels_csv`, `table`, `imagenet`, `folders`,
            `classes`, or `auto`.
        label: column of a table's label, or the finding of NIH's table.

    Raises:
        UsageError: for an unknown layout, no photographs, or two of one name.
    """
    is_table = layout == AUTO and Path(source).is_file() and str(source).endswith(".csv")
    name = "table" if is_table else find_layout(source) if layout == AUTO else layout
    if name not in _LAYOUTS:
        require_known("layout", layout, [AUTO, *LAYOUTS])
    if label and name != "table":
        raise UsageError(f"label is {label!r}, but {source} is of the layout {name}, not a table.")
    photos = read_table(Path(source), label) if label else _LAYOUTS[name][1](Path(source))
    if not photos:
        raise UsageError(f"{source} has no photographs.")
    if len({photo.name for photo in photos}) < len(photos):
        raise UsageError(f"{source} has two photographs of one name: names must tell them apart.")
    return photos
