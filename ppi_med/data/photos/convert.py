"""A datalist of photographs: official parts kept, a validation part cut from the training."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppi_med.data.datalist import write_datalist
from ppi_med.data.photos.layouts import AUTO, read_photos
from ppi_med.data.photos.photo import TEST, TRAINING, VALIDATION, Photo
from ppi_med.data.splits import PARTS
from ppi_med.errors import UsageError
from ppi_med.io import exclusive

logger = logging.getLogger(__name__)

DATALIST = "datalist.json"
_TEST_SHARE = 0.2
"""Share of the patients, if the source has no test part."""

Datalist = dict[str, list[dict[str, Any]]]


def convert_photos(
    source: str | Path,
    output: str | Path,
    *,
    layout: str = AUTO,
    label: str = "",
    validation: float = 0.1,
    seed: int = 0,
    training: int | None = None,
) -> Datalist:
    """Write `datalist.json` for a folder of photographs; no picture is copied.

    Args:
        source: the folder, see `ppi_med.data.photos.layouts.read_photos`.
        output: folder of the datalist, made where it is missing.
        layout: layout of the source.
        label: column of a table's label.
        validation: share of each class's training images that become the validation part.
        seed: seed of the choice.
        training: keep only this many training images, as equally many of each class as there are.

    Returns:
        The datalist: items with image, label, class_name, volume_id, boxes and site where known.

    Raises:
        UsageError: for a share outside [0, 1), a source that cannot be read, or an output that
            another process writes to.
    """
    photos = read_photos(source, layout, label)
    parts = part_photos(photos, validation=validation, seed=seed, training=training)
    folder = Path(output)
    made = {name: [_item(photo, folder) for photo in parts[name]] for name in PARTS}
    with exclusive(folder, "conversion"):
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
    tested = {_unit(photo) for photo in photos if photo.part == TEST}
    left = [photo for photo in photos if photo.part == TRAINING and _unit(photo) not in tested]
    if sum(photo.part == TRAINING for photo in photos) > len(left):
        logger.warning("Training images of patients of the test part were left out.")
    if not tested and any(photo.patient for photo in photos):
        tested = _drawn(_by_class(left, f"test-{seed}"), _TEST_SHARE)
        left = [photo for photo in left if _unit(photo) not in tested]
    classes = _by_class(left, f"photos-{seed}")
    held = {_unit(photo) for photo in photos if photo.part == VALIDATION}
    held = held or _drawn(classes, validation)
    left = [photo for photo in left if _unit(photo) not in held]
    kept = _kept(left, classes, training)
    return {
        TRAINING: [p for p in left if p.name in kept],
        VALIDATION: [p for p in photos if p.part != TEST and _unit(p) in held - tested],
        TEST: [p for p in photos if p.part == TEST or _unit(p) in tested],
    }


def _unit(photo: Photo) -> str:
    """Return the unit that is never divided: the patient, else the photograph."""
    return f"patient {photo.patient}" if photo.patient else photo.name


def _by_class(photos: Sequence[Photo], seed: str) -> dict[int, list[str]]:
    """Return the units of each class, shuffled."""
    found: dict[int, dict[str, None]] = {}
    for photo in photos:
        found.setdefault(photo.label, {})[_unit(photo)] = None
    result = {label: list(units) for label, units in sorted(found.items())}
    for label, units in result.items():
        random.Random(f"{seed}-{label}").shuffle(units)
    return result


def _drawn(classes: Mapping[int, Sequence[str]], share: float) -> set[str]:
    """Return the first units of each class, by the same share."""
    return {unit for own in classes.values() for unit in own[: round(share * len(own))]}


def _kept(
    photos: Sequence[Photo], classes: Mapping[int, Sequence[str]], training: int | None
) -> set[str]:
    """Return the names of `training` photographs, as many of each class as there are, or all.

    The remainder goes to the first classes.
    """
    if training is None:
        return {photo.name for photo in photos}
    kept: set[str] = set()
    for rank, (label, units) in enumerate(classes.items()):
        order = {unit: number for number, unit in enumerate(units)}
        own = sorted((p for p in photos if p.label == label), key=lambda p: order[_unit(p)])
        most = training // len(classes) + (rank < training % len(classes))
        kept.update(photo.name for photo in own[:most])
    return kept


def photos_hash(datalist: str | Path) -> str | None:
    """Return a hash of a datalist's content, wherever the pictures are; None if missing.

    Examples:
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
    """Return one line per part: images, classes, boxes."""
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
    if photo.patient:
        item["subject"] = photo.patient
    return item


def _reference(image: str, folder: Path) -> str:
    """Return the path relative to the datalist's folder where it is inside, else the whole."""
    path, here = Path(image).resolve(), folder.resolve()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)
