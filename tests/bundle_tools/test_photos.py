"""What a bundle of photographs refuses before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppi_med.bundle_tools import photos
from ppi_med.errors import MissingFileError, UsageError


def datalist(folder: Path, **labels: list[int]) -> Path:
    path = folder / "datalist.json"
    path.write_text(json.dumps({part: [{"label": n} for n in of] for part, of in labels.items()}))
    return path


def test_classes_are_counted_over_all_parts(tmp_path: Path) -> None:
    path = datalist(tmp_path, training=[0, 1], test=[0, 4])
    assert photos.count_classes(path) == 5
    assert photos.count_classes(tmp_path / "none.json", without=3) == 3
    assert photos.count_classes(datalist(tmp_path, training=[]), without=3) == 3


def test_a_missing_data_set_is_answered_by_the_commands(tmp_path: Path) -> None:
    with pytest.raises(
        MissingFileError, match=r"ppi-med make-phantom birds --output .*convert-photos"
    ):
        photos.require_photos(tmp_path / "none" / "datalist.json")
    photos.require_photos(datalist(tmp_path))


def test_missing_weights(tmp_path: Path) -> None:
    photos.require_weights(None, "")
    with pytest.raises(MissingFileError, match="no weights .*: train first"):
        photos.require_weights(tmp_path / "a.pt", "train first")


@pytest.mark.parametrize("size", [[64], [64, 16], 64, [64, 64.0], None])
def test_sizes_that_are_none(size: object) -> None:
    with pytest.raises(UsageError, match="image_size"):
        photos.require_square(size)
    photos.require_square([64, 32])


def images(*labels: int) -> list[dict[str, int]]:
    return [{"label": label} for label in labels]


def test_parts_that_cannot_be_trained() -> None:
    photos.require_classes({"training": images(0, 1, 2), "test": images(1)}, 3, 3)
    with pytest.raises(UsageError, match="label 3 .* from 0 to 2"):
        photos.require_classes({"test": images(0, 3)}, 3)
    with pytest.raises(UsageError, match="batch of 4"):
        photos.require_classes({"training": images(0, 1, 2)}, 3, 4)
    with pytest.raises(UsageError, match="1 classes"):
        photos.require_classes({"training": images(1, 1)}, 3, 2)
