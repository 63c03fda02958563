"""CIFAR-10 (and 100) as published for python: pickled batches."""

from __future__ import annotations

from pathlib import Path

from ppi_med.data.photos.photo import TEST, TRAINING, Photo
from ppi_med.data.photos.pixels import MEMBER, read_batch
from ppi_med.errors import MissingFileError, UsageError

FOLDERS = ("cifar-10-batches-py", "cifar-100-python")
_TRAINING, _TEST, _META = (
    ("data_batch_*", "train"),
    ("test_batch", "test"),
    ("batches.meta", "meta"),
)
_LABELS, _NAMES = ("labels", "fine_labels"), ("label_names", "fine_label_names")


def cifar_root(source: Path) -> Path | None:
    """Return the folder with the batches: the one given or the one inside; None: no CIFAR."""
    for folder in (source, *(source / name for name in FOLDERS)):
        if _files(folder, _META) and _files(folder, _TEST):
            return folder
    return None


def read_cifar(source: str | Path) -> list[Photo]:
    """Read the batches; their order is the published one.

    Args:
        source: `cifar-10-batches-py` or the folder around it.

    Raises:
        MissingFileError: if the batches are not there.
        UsageError: if a file is no batch.
    """
    root = cifar_root(Path(source))
    if root is None:
        raise MissingFileError(
            f"No batches of CIFAR in {source}, expected {FOLDERS[0]} with data_batch_1 to 5, "
            "test_batch and batches.meta."
        )
    meta = read_batch(_files(root, _META)[0])
    names: list[str] = next((meta[key] for key in _NAMES if key in meta), [])
    photos: list[Photo] = []
    for part, patterns in ((TRAINING, _TRAINING), (TEST, _TEST)):
        for path in _files(root, patterns):
            photos += _photos(path, part, names)
    return photos


def _photos(path: Path, part: str, names: list[str]) -> list[Photo]:
    batch = read_batch(path)
    labels = next((batch[key] for key in _LABELS if key in batch), None)
    if not isinstance(labels, list) or "data" not in batch or len(labels) != len(batch["data"]):
        raise UsageError(f"{path} has no label for each image, expected a batch of CIFAR.")
    return [
        Photo(
            image=f"{path}{MEMBER}{row}",
            name=f"{path.name}/{row:05d}",
            label=int(label),
            class_name=str(names[label]) if 0 <= label < len(names) else str(label),
            part=part,
        )
        for row, label in enumerate(labels)
    ]


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
