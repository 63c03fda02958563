"""Datalists of photographs: parts, references, what load_parts makes of them; the real samples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ppi_med.data.datalist import load_parts
from ppi_med.data.photos.convert import convert_photos, part_photos, photos_hash, summary
from ppi_med.data.photos.photo import Photo
from ppi_med.data.photos.pixels import read_pixels
from ppi_med.errors import UsageError
from tests.data.photos import made


def test_a_datalist_leads_to_the_pixels(tmp_path: Path) -> None:
    source = made.make_folders(tmp_path / "source", archives=True)
    convert_photos(source, tmp_path / "out", validation=0.5)
    test = load_parts(tmp_path / "out/datalist.json", "test")
    assert test[0]["volume_id"] == "test/dog/9" and test[0]["label"] == 1
    assert np.array_equal(read_pixels(test[0]["image"]), made.picture(0))


def test_pictures_beside_the_datalist_may_move_with_it(tmp_path: Path) -> None:
    folder = made.make_cub(tmp_path / "a")
    convert_photos(folder, folder, validation=0.0)
    folder.rename(tmp_path / "b")
    items = load_parts(tmp_path / "b/datalist.json", "test")
    assert np.array_equal(read_pixels(items[0]["image"]), made.picture(1))
    assert items[0]["boxes"] == [[0.0, 0.0, 20.0, 30.0]]


def photos(counts: dict[int, int]) -> list[Photo]:
    return [
        Photo("x", f"{label}/{i}", label, part="training")
        for label, count in counts.items()
        for i in range(count)
    ]


def test_the_validation_part_has_the_classes_shares() -> None:
    found = part_photos(photos({0: 40, 1: 20}), validation=0.1, seed=0)
    assert Counter(p.label for p in found["validation"]) == {0: 4, 1: 2}
    assert Counter(p.label for p in found["training"]) == {0: 36, 1: 18}
    again = part_photos(photos({0: 40, 1: 20})[::-1], validation=0.1, seed=0)
    assert len(again["validation"]) == 6
    other = part_photos(photos({0: 40, 1: 20}), validation=0.1, seed=1)
    assert other["validation"] != found["validation"]


def test_fewer_training_images_leave_the_validation_as_it_is() -> None:
    whole = part_photos(photos({0: 40, 1: 40}), validation=0.25, seed=0)
    few = part_photos(photos({0: 40, 1: 40}), validation=0.25, seed=0, training=10)
    assert few["validation"] == whole["validation"]
    assert Counter(p.label for p in few["training"]) == {0: 5, 1: 5}
    odd = part_photos(photos({2: 40, 1: 40, 0: 40}), validation=0.25, seed=0, training=11)
    assert Counter(p.label for p in odd["training"]) == {0: 4, 1: 4, 2: 3}


@pytest.mark.parametrize("wrong", [{"validation": 1.0}, {"validation": -0.1}, {"training": 0}])
def test_shares_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        part_photos(photos({0: 4}), **{"validation": 0.1, "seed": 0, **wrong})


def test_the_hash_is_of_what_is_said_not_of_where_it_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert_photos(made.make_cub(tmp_path / name), tmp_path / name / "out", validation=0.0)
    first, second = (tmp_path / name / "out/datalist.json" for name in ("a", "b"))
    assert first.read_text() != second.read_text()
    assert photos_hash(first) == photos_hash(second)
    changed = json.loads(first.read_text())
    changed["test"][0]["label"] = 1
    second.write_text(json.dumps(changed))
    assert photos_hash(first) != photos_hash(second)


@pytest.mark.data
def test_the_real_samples(data_root: Path, tmp_path: Path) -> None:
    cub = convert_photos(data_root / "cub_sample", tmp_path / "cub", validation=0.1)
    assert summary(cub).splitlines() == [
        "training: 270 images of 10 classes, 270 with boxes",
        "validation: 30 images of 10 classes, 30 with boxes",
        "test: 243 images of 10 classes, 243 with boxes",
    ]
    for item in cub["test"][::40]:
        rows, columns = read_pixels(item["image"]).shape[:2]
        y0, x0, y1, x1 = item["boxes"][0]
        assert 0 <= y0 < y1 <= rows + 1 and 0 <= x0 < x1 <= columns + 1
    cifar = convert_photos(data_root / "cifar10", tmp_path / "cifar", validation=0.1)
    assert [len(items) for items in cifar.values()] == [9000, 1000, 2000]
    assert [i["class_name"] for i in cifar["test"][::200]][:3] == ["airplane", "automobile", "bird"]
    assert read_pixels(cifar["test"][-1]["image"]).shape == (32, 32, 3)
    imagenet = convert_photos(data_root / "imagenet_sample", tmp_path / "imagenet")
    assert [len(items) for items in imagenet.values()] == [0, 0, 120]
    assert all(len(item["boxes"]) == 1 for item in imagenet["test"])
