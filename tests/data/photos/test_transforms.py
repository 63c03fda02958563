"""Photographs as the network sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ppi_med.data.photos.transforms import AugmentPhotod, LoadPhotod, NormalizePhotod
from tests.data.photos import made


def item(tmp_path: Path, **size: int) -> dict:
    path = made.write(tmp_path / "a.png", made.png(3, **size))
    return {"image": str(path), "label": 1, "boxes": [[4.0, 6.0, 12.0, 18.0]]}


def test_a_picture_of_the_size_is_unchanged(tmp_path: Path) -> None:
    loaded = LoadPhotod((20, 30), mask_key="mask")(item(tmp_path))
    assert np.array_equal(loaded["image"].permute(1, 2, 0).numpy(), made.picture(3))
    expected = torch.zeros(1, 20, 30, dtype=torch.bool)
    expected[:, 4:12, 6:18] = True
    assert torch.equal(loaded["mask"], expected) and "boxes" not in loaded


def test_the_box_is_squeezed_with_the_picture(tmp_path: Path) -> None:
    loaded = LoadPhotod((10, 10), mask_key="mask")(item(tmp_path))
    assert loaded["image"].shape == (3, 10, 10)
    expected = torch.zeros(1, 10, 10, dtype=torch.bool)
    expected[:, 2:6, 2:6] = True
    assert torch.equal(loaded["mask"], expected)


def test_the_box_is_cut_with_the_picture(tmp_path: Path) -> None:
    loaded = LoadPhotod((16, 16), short_side=20, mask_key="mask")(item(tmp_path))
    assert np.array_equal(loaded["image"].permute(1, 2, 0).numpy(), made.picture(3)[2:18, 7:23])
    expected = torch.zeros(1, 16, 16, dtype=torch.bool)
    expected[:, 2:10, 0:11] = True
    assert torch.equal(loaded["mask"], expected)


def test_the_mask_covers_what_the_box_covers_in_the_picture(tmp_path: Path) -> None:
    """A white box, drawn into a black picture, is where the mask is."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[20:44, 30:75] = 255
    Image.fromarray(pixels).save(tmp_path / "b.png")
    data = {"image": str(tmp_path / "b.png"), "boxes": [[20, 30, 44, 75]]}
    loaded = LoadPhotod((24, 32), short_side=32, mask_key="mask")(data)
    white = loaded["image"][0] > 127
    assert int((white ^ loaded["mask"][0]).sum()) <= 0.05 * int(white.sum())


def test_without_a_box_the_mask_is_empty(tmp_path: Path) -> None:
    data = item(tmp_path)
    del data["boxes"]
    assert not LoadPhotod((8, 8), mask_key="mask")(data)["mask"].any()


@pytest.mark.parametrize(
    "wrong", [{"size": [8]}, {"size": [8, 0]}, {"size": [8, 9], "short_side": 8}]
)
def test_sizes_that_are_none(wrong: dict) -> None:
    with pytest.raises(ValueError, match="short_side"):
        LoadPhotod(**wrong)


def test_augmentation_moves_and_flips_by_its_seed() -> None:
    image = torch.arange(3 * 8 * 9).view(3, 8, 9)
    move = AugmentPhotod("image", shift=2).set_random_state(seed=4)
    moved = [move({"image": image})["image"] for _ in range(30)]
    again = AugmentPhotod("image", shift=2).set_random_state(seed=4)
    assert all(torch.equal(m, again({"image": image})["image"]) for m in moved)
    assert len({tuple(m.flatten().tolist()) for m in moved}) > 10
    assert all(set(m.flatten().tolist()) <= set(image.flatten().tolist()) for m in moved)
    still = AugmentPhotod("image", flip_prob=0.0, shift=0)
    assert torch.equal(still({"image": image})["image"], image)


def test_a_shift_moves_the_middle() -> None:
    from ppi_med.data.photos.transforms import _moved

    image = torch.arange(6 * 7).view(1, 6, 7)
    moved = _moved(image, 1, -2, False)
    assert torch.equal(moved[:, 1:, :-2], image[:, :-1, 2:])
    assert torch.equal(moved[:, 0, :-2], image[:, 1, 2:])  # mirrored


def test_normalised() -> None:
    image = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1)
    out = NormalizePhotod("image", mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 1.0))({"image": image})
    assert torch.allclose(out["image"].flatten(), torch.tensor([-1.0, 2.0, 0.0]), atol=1e-6)
