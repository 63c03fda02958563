"""Loading, normalising and sampling of patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ppi_med.data.lidc.cases import load_cases
from ppi_med.data.lidc.transforms import LoadPatchd, NormalizeCtd, SamplePatchd

from .folders import SIZE, write_nodules

FIELD = SIZE * 0.7  # of the whole patch, in mm


def patch(image: torch.Tensor, spacing: tuple[float, float] = (0.7, 0.7), **more: object) -> dict:
    return {"image": image[None], "spacing_mm": torch.tensor(spacing), "volume_id": "v", **more}


def ramp(size: int = SIZE) -> torch.Tensor:
    return torch.arange(float(size * size)).reshape(size, size)


def test_loading(tmp_path: Path) -> None:
    case = load_cases(write_nodules(tmp_path, 10), "all")[3]
    item = LoadPatchd(["lesion", "majority", "readers", "state"])(case)
    assert item["image"].shape == (1, SIZE, SIZE) and item["image"].dtype == torch.float32
    assert item["spacing_mm"].tolist() == pytest.approx([0.7, 0.7])
    assert item["image"][0, 0, 0] == -2000
    assert item["lesion"].shape == (1, SIZE, SIZE) and item["readers"].shape == (4, SIZE, SIZE)
    assert item["state"].tolist() == [2, 1, 2, 0]
    assert "lesion" not in LoadPatchd()(case) and "row" not in item
    with pytest.raises(ValueError, match="union"):
        LoadPatchd(["union"])


def test_zero_is_lung_and_what_was_not_scanned() -> None:
    hu = torch.tensor([[[-2000.0, -1000.0, -850.0, -450.0, 900.0]]])
    found = NormalizeCtd("image")({"image": hu})["image"]
    assert found.flatten().tolist() == [0.0, -0.375, 0.0, 1.0, 3.125]
    with pytest.raises(ValueError, match="low <= zero"):
        NormalizeCtd("image", zero=500.0)


def test_the_whole_patch_at_its_own_size_is_the_patch() -> None:
    image = ramp()
    found = SamplePatchd("image", SIZE, FIELD)(patch(image))["image"]
    torch.testing.assert_close(found[0], image, rtol=0, atol=1e-2)
    assert SamplePatchd("image", SIZE)(patch(image))["image"].equal(found)


@pytest.mark.parametrize("size", [70, 71])
def test_a_crop_of_whole_pixels_is_a_slice(size: int) -> None:
    image = ramp(size)
    found = SamplePatchd("image", 21, 21 * 0.7)(patch(image))["image"][0]
    start = size // 2 - 10
    wanted = image[start : start + 21, start : start + 21]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


def test_a_field_in_mm_needs_more_pixels_where_they_are_small() -> None:
    image = torch.zeros(71, 71)
    image[:, 20:51] = 1.0
    wide, narrow = (
        SamplePatchd("image", 40, 28.0)(patch(image, (mm, mm)))["image"] for mm in (0.9, 0.5)
    )
    assert wide.mean() > 0.95 and 0.5 < narrow.mean() < 0.6
    uneven = SamplePatchd("image", 40, 28.0)(patch(image, (0.9, 0.5)))["image"]
    torch.testing.assert_close(uneven[0].mean(0), narrow[0].mean(0), rtol=0, atol=1e-4)


def test_outside_is_zero_and_masks_stay_masks() -> None:
    lesion = torch.ones(1, 11, 11, dtype=torch.uint8)
    item = patch(torch.full((11, 11), 5.0), lesion=lesion)
    found = SamplePatchd(["image", "lesion"], 21, 21 * 0.7)(item)
    assert found["lesion"].dtype == torch.uint8 and found["lesion"].sum() == 121
    assert found["image"][0, 0, 0] == 0 and found["image"].max() == 5


def test_a_flip_and_a_half_turn_are_exact() -> None:
    image = ramp()
    sampler = SamplePatchd("image", SIZE, FIELD, flip_prob=1.0)
    found = sampler(patch(image))["image"][0]
    torch.testing.assert_close(found, image.flip(1), rtol=0, atol=1e-2)


def test_random_images_differ_but_not_under_one_seed() -> None:
    sampler = SamplePatchd(
        "image", 16, 15.0, flip_prob=0.5, rotate_degrees=180, shift_mm=1.0, zoom=1.2
    )
    first, second = (sampler(patch(ramp()))["image"] for _ in range(2))
    assert not first.equal(second)
    again = [sampler.set_random_state(5)(patch(ramp()))["image"] for _ in range(2)]
    assert again[0].equal(again[1])


def test_a_rotation_keeps_the_middle_and_distances() -> None:
    rows, columns = np.indices((71, 71)) - 35
    disc = torch.from_numpy((np.hypot(rows, columns) < 12).astype(np.float32))
    sampler = SamplePatchd("image", 40, 30.0, rotate_degrees=180).set_random_state(3)
    turned = sampler(patch(disc))["image"]
    plain = SamplePatchd("image", 40, 30.0)(patch(disc))["image"]
    assert (turned - plain).abs().mean() < 0.02


def test_shifted_places_hold_the_lesion_and_depend_on_the_name() -> None:
    lesion = torch.zeros(1, 71, 71, dtype=torch.uint8)
    lesion[0, 33:38, 33:38] = 1
    sampler = SamplePatchd(["image", "lesion"], 31, 31 * 0.7, crop_mode="shifted", seed=1)
    places = set()
    for name in "abcde":
        item = patch(ramp(71), lesion=lesion) | {"volume_id": name}
        found = sampler(item)["lesion"]
        assert found.sum() == 25
        assert sampler(item)["lesion"].equal(found)
        places.add(tuple(found[0].nonzero()[0].tolist()))
    assert len(places) > 1


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"field_mm": -1.0}, {"flip_prob": 2.0}, {"zoom": 0.5}, {"crop_mode": "left"}],
)
def test_bad_arguments(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SamplePatchd("image", **{"size": 16, **options})
