"""A datalist of photographs: official parts kept, a validation part cut from the training."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppi_med.data.datalist import write_datalist
from ppi_med.data.photos.layouts import AUTO, read_photos
from ppi_med.data.photos.photo import TEST, TRAINING, Photo
from ppi_med.data.splits import PARTS
from ppi_med.errors import UsageError

DATALIST = "datalist.json"
VALIDATION = "validation"

Datalist = dict[str, list[dict[str, Any]]]


def convert_photos(
    source: str | Path,
    output: str | Path,
    *,
    layout: str = AUTO,
    validation: float = 0.1,
    seed: int = 0,
    training: int | None = None,
) -> Datalist:
    """Write ``datalist.json`` for a folder of photographs; no picture is copied.

    Args:
        source: the folder, see :func:`ppi_med.data.photos.layouts.read_photos`.
        output: folder of the datalist, made where it is missing.
        layout: of the source.
        validation: share of each class's training images that become the validation part.
        seed: of the choice.
        training: keep only this many training images, as equally many of each class as there are.

    Returns:
        The datalist: items with image, label, class_name, volume_id, boxes and site where known.

    Raises:
        UsageError: for a share outside [0, 1), or a source that cannot be read.
    """
    photos = read_photos(source, layout)
    parts = part_photos(photos, validation=validation, seed=seed, training=training)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: [_item(photo, folder) for photo in parts[name]] for name in PARTS}
    write_datalist(folder / DATALIST, made)
    return made


def part_photos(
    photos: Sequence[Photo], *, validation: float, seed: int, training: int | None = None
) -> dict[str, list[Photo]]:
    """Return the photographs by part, in their order; a class is cut by the same share as others.

    Raises:
        UsageError: for a share outside [0, 1), or a number of images below 1.
    """
    if not 0 <= validation < 1:
        raise UsageError(f"validation is {validation}, expected a share from 0 up to below 1.")
    if training is not None and training < 1:
        raise UsageError(f"training is {training}, expected a number of images, 1 or more.")
    shuffled: dict[int, list[Photo]] = {}
    for photo in photos:
        if photo.part == TRAINING:
            shuffled.setdefault(photo.label, []).append(photo)
    held: set[str] = set()
    kept: set[str] = set()
    for rank, (label, own) in enumerate(sorted(shuffled.items())):
        random.Random(f"photos-{seed}-{label}").shuffle(own)
        cut = round(validation * len(own))
        held.update(photo.name for photo in own[:cut])
        most = len(own)
        if training is not None:  # what does not go round evenly falls to the first classes
            most = training // len(shuffled) + (rank < training % len(shuffled))
        kept.update(photo.name for photo in own[cut:][:most])
    return {
        TRAINING: [p for p in photos if p.name in kept],
        VALIDATION: [p for p in photos if p.name in held],
        TEST: [p for p in photos if p.part == TEST],
    }


def photos_hash(datalist: str | Path) -> str | None:
    """Return a hash of what a datalist says, wherever the pictures are; None where it is missing.

    Example:
        >>> photos_hash("no/such/datalist.json") is None
        True
    """
    path = Path(datalist)
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    said = {
        part: [{key: value for key, value in item.items() if key != "image"} for item in items]
        for part, items in content.items()
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def summary(datalist: Datalist) -> str:
    """Return a line a part: images, classes, boxes."""
    lines = []
    for part, items in datalist.items():
        classes = Counter(item["label"] for item in items)
        boxes = sum("boxes" in item for item in items)
        lines.append(f"{part}: {len(items)} images of {len(classes)} classes, {boxes} with boxes")
    return "\n".join(lines)


def _item(photo: Photo, folder: Path) -> dict[str, Any]:
    item: dict[str, Any] = {
        "image": _reference(photo.image, folder),
        "label": photo.label,
        "class_name": photo.class_name,
        "volume_id": photo.name,
    }
    if photo.boxes:
        item["boxes"] = [list(box) for box in photo.boxes]
    if photo.site:
        item["site"] = photo.site
    return item


def _reference(image: str, folder: Path) -> str:
    """Return the path relative to the datalist's folder where it is inside, else the whole."""
    path, here = Path(image).resolve(), folder.resolve()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)
