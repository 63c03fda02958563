"""The checks of a bundle of photographs before it starts."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppi_med.bundle_tools.preflight import class_labels
from ppi_med.data.datalist import require_kind
from ppi_med.errors import MissingFileError, UsageError

logger = logging.getLogger(__name__)


def count_classes(datalist: str | os.PathLike[str], without: int = 10) -> int:
    """Return the number of classes of a data set: the highest label and one.

    Args:
        datalist: its `datalist.json`.
        without: returned if the file is missing, so that the network can be built.

    Examples:
        >>> count_classes("no/such/datalist.json")
        10
    """
    path = Path(datalist)
    if not path.is_file():
        return without
    parts = json.loads(path.read_text(encoding="utf-8"))
    labels = [int(i["label"]) for items in parts.values() for i in items if "label" in i]
    return max(labels) + 1 if labels else without


def require_photos(datalist: str | os.PathLike[str], phantom: str | None = None) -> None:
    """Refuse to start without a data set, naming the commands that make one.

    Args:
        datalist: the data set's `datalist.json`.
        phantom: folder of the phantom; default that of the datalist.

    Raises:
        MissingFileError: if the file does not exist.
        UsageError: if the data set is of another kind.
    """
    path = Path(datalist)
    if path.is_file():
        require_kind(path, "photographs")
        return
    folder = os.path.normpath(path.parent)
    raise MissingFileError(
        f"There is no data set in {folder} (no {path.name}): make the phantom with "
        f"`ppi-med make-phantom birds --output {phantom or folder}`, or convert your "
        f"own photographs with `ppi-med convert-photos --source DIR --output DIR` and "
        "name that folder with --dataset_dir."
    )


def require_weights(path: str | os.PathLike[str] | None, how: str) -> None:
    """Refuse to start without a file of weights.

    Args:
        path: the file; None for no file.
        how: what to do, the end of the sentence.

    Raises:
        MissingFileError: if the file does not exist.
    """
    if path is not None and not Path(path).is_file():
        raise MissingFileError(f"There are no weights {os.path.normpath(path)}: {how}.")


def require_square(image_size: Any) -> None:
    """Refuse an impossible size of images.

    Raises:
        UsageError: if it is not two numbers of at least 32.
    """
    pair = isinstance(image_size, (list, tuple)) and len(image_size) == 2
    if not (pair and all(isinstance(size, int) and size >= 32 for size in image_size)):
        raise UsageError(
            f"image_size is {image_size!r}, expected [height, width] in pixels, each 32 or more, "
            "such as [64, 64]."
        )


def require_classes(
    parts: Mapping[str, Sequence[Mapping[str, Any]]], num_classes: int, batch_size: int = 1
) -> None:
    """Refuse parts that a training cannot use, and print what is used.

    Args:
        parts: images by part, such as {"training": [...], "validation": [...]}.
        num_classes: number of classes of the network.
        batch_size: batch size of the training, which leaves an incomplete last batch out.

    Raises:
        UsageError: if a label is beyond the network's classes, or the training has only one class
            or less than one batch.
    """
    for part, images in parts.items():
        counts = Counter(class_labels(part, images, num_classes))
        if part == "training" and (len(images) < batch_size or len(counts) < 2):
            raise UsageError(
                f"The part {part} has {len(images)} images of {len(counts)} classes, expected two "
                f"classes and a batch of {batch_size}: give a smaller --batch_size or more images."
            )
    lines = [f"{part}: {len(images)} images" for part, images in parts.items()]
    logger.info("%s; %d classes", "; ".join(lines), num_classes)
