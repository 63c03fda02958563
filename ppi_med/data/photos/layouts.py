"""Which layout a folder of photographs has, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ppi_med.data.photos.cifar import cifar_root, read_cifar
from ppi_med.data.photos.cub import cub_root, read_cub
from ppi_med.data.photos.folders import LABELS, image_folders, read_folders, read_labels_csv
from ppi_med.data.photos.imagenet import is_imagenet, read_imagenet
from ppi_med.data.photos.photo import Photo
from ppi_med.errors import MissingFileError, UsageError

# The first that recognises the folder is taken: the special ones come first.
_LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], list[Photo]]]] = {
    "cub": (lambda f: cub_root(f) is not None, read_cub),
    "cifar": (lambda f: cifar_root(f) is not None, read_cifar),
    "labels_csv": (lambda f: (f / LABELS).is_file(), read_labels_csv),
    "imagenet": (is_imagenet, read_imagenet),
    "folders": (lambda f: bool(image_folders(f)), read_folders),
}
LAYOUTS = tuple(_LAYOUTS)
AUTO = "auto"


def find_layout(source: str | Path) -> str:
    """Return the name of a folder's layout.

    Raises:
        MissingFileError: where the folder is not there.
        UsageError: where it has none of them.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no folder, expected that of a data set.")
    for name, (fits, _) in _LAYOUTS.items():
        if fits(folder):
            return name
    raise UsageError(
        f"{folder} has no layout that is known, expected CUB_200_2011 (images.txt), CIFAR's python "
        "batches, labels.csv with images/, ImageNet's val/ with a folder a wnid, or train/ and "
        "test/ with a folder a class."
    )


def read_photos(source: str | Path, layout: str = AUTO) -> list[Photo]:
    """Read a folder of photographs.

    Args:
        source: the folder.
        layout: ``cub``, ``cifar``, ``labels_csv``, ``imagenet``, ``folders``, or ``auto``.

    Raises:
        UsageError: for an unknown layout, no photographs, or two of one name.
    """
    name = find_layout(source) if layout == AUTO else layout
    if name not in _LAYOUTS:
        raise UsageError(f"layout is {layout!r}, expected one of {[AUTO, *LAYOUTS]}.")
    photos = _LAYOUTS[name][1](Path(source))
    if not photos:
        raise UsageError(f"{source} has no photographs.")
    if len({photo.name for photo in photos}) < len(photos):
        raise UsageError(f"{source} has two photographs of one name: names must tell them apart.")
    return photos
