"""The MONAI transforms: shapes, positions, the meaning of 0, the same move for image and mask."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose

from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.transforms import (
    AllSlicesd,
    LoadOctVolumed,
    NormalizeOctd,
    RandGammad,
    SampleSlicesd,
    intensity_levels,
    oct_augmentations,
)
from ppi_med.data.oct.volume import OctReadError, Spacing
from ppi_med.networks.multiview import relative_positions
from tests.data.oct import writers

PIXELS = writers.volume((100, 12, 9))


@pytest.fixture
def item(tmp_path: Path) -> dict:
    lesion = (PIXELS > 128).astype(np.uint8)
    return {
        "image": str(write_nifti(tmp_path / "a.nii.gz", PIXELS, Spacing(0.006, 0.004, 0.06))),
        "lesion": str(write_nifti(tmp_path / "m.nii.gz", lesion, Spacing(0.006, 0.004, 0.06))),
        "label": 1,
    }


def test_load(item: dict) -> None:
    loaded = LoadOctVolumed(["image", "lesion"])(item)
    image = loaded["image"]
    assert isinstance(image, MetaTensor) and image.shape == (1, 100, 12, 9)
    np.testing.assert_array_equal(image[0].numpy(), PIXELS)
    np.testing.assert_array_equal(loaded["lesion"][0].numpy(), PIXELS > 128)
    assert image.dtype == torch.uint8 and loaded["label"] == 1
    assert image.meta["spacing_mm"] == pytest.approx([0.06, 0.004, 0.006])
    corner = image.affine @ torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64)
    assert corner.tolist() == pytest.approx([0.018, 0.008, 0.06, 1.0])
    assert item["image"].endswith("a.nii.gz")  # the caller's item is as it was
    assert LoadOctVolumed("image", dtype="float32")(item)["image"].dtype == torch.float32
    missing = LoadOctVolumed(["image", "other"], allow_missing_keys=True)(item)
    assert "other" not in missing


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_pixels_of_other_types_are_never_wrapped(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "a.nii"

    def load(array: np.ndarray) -> np.ndarray:
        nib.save(nib.Nifti1Image(array.astype(kind), np.eye(4)), path)
        return LoadOctVolumed("image")({"image": path})["image"][0].numpy()

    mask = (PIXELS > 128).transpose(2, 1, 0)
    np.testing.assert_array_equal(load(mask), PIXELS > 128)
    wide = PIXELS.transpose(2, 1, 0).astype(np.uint16) * 16
    if kind is np.uint16:
        np.testing.assert_array_equal(load(wide), PIXELS)
        return
    for array in (wide, -1 * mask):
        with pytest.raises(OctReadError, match="expected uint8"):
            load(array)


def test_load_unknown_spacing_and_vendor_files(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", PIXELS, Spacing(axial=0.004))
    spacing = LoadOctVolumed("image")({"image": path})["image"].meta["spacing_mm"]
    assert all(math.isnan(value) for value in spacing)
    mat = writers.write_mat(tmp_path / "a.mat", PIXELS)
    load = LoadOctVolumed("image", options={"spacing": "0.006,?,?", "pad_width": 11})
    image = load({"image": mat})["image"]
    assert image.shape == (1, 100, 12, 11)
    np.testing.assert_array_equal(image[0, :, :, 1:10].numpy(), PIXELS)
    assert image.meta["spacing_mm"][2] == 0.006 and math.isnan(image.meta["spacing_mm"][0])
    assert "--spacing" in image.meta["provenance"]
    with pytest.raises(FileNotFoundError):
        load({"image": tmp_path / "gone.nii.gz"})
    with pytest.raises(ValueError, match="dtype is 'int'"):
        LoadOctVolumed("image", dtype="int")  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 5, 49, 97, 100, 128, 145])
def test_positions(n: int) -> None:
    ids = relative_positions(n).tolist()
    for index, value in enumerate(ids):
        assert value - 1 <= (index + 0.5) * 100 / n < value  # the centre lies in that part
    if n == 100:
        assert ids == list(range(1, 101))


def test_positions_refuse() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        relative_positions(0)


def test_sample(item: dict) -> None:
    sample = Compose(
        [LoadOctVolumed(["image", "lesion"]), SampleSlicesd(["image", "lesion"], num_slices=10)]
    )
    sample.set_random_state(3)
    one, two = sample(item), sample(item)
    for out in (one, two):
        ids = out["positions"]
        assert ids.dtype == torch.int64 and ids.tolist() == sorted(set(ids.tolist()))
        np.testing.assert_array_equal(out["image"][0].numpy(), PIXELS[ids.numpy() - 1])
        np.testing.assert_array_equal(out["lesion"][0].numpy(), PIXELS[ids.numpy() - 1] > 128)
    assert one["positions"].tolist() != two["positions"].tolist()
    sample.set_random_state(3)
    assert sample(item)["positions"].tolist() == one["positions"].tolist()
    batch = list_data_collate([one, two])
    assert batch["image"].shape == (2, 1, 10, 12, 9) and batch["positions"].shape == (2, 10)


def test_every_slice_has_the_same_chance() -> None:
    sample = SampleSlicesd("image", num_slices=10).set_random_state(0)
    volume = {"image": torch.zeros(1, 100, 1, 1)}
    counts = np.zeros(100)
    for _ in range(2000):
        counts[sample(volume)["positions"].numpy() - 1] += 1
    assert abs(counts - 200).max() < 5 * math.sqrt(200 * 0.9)


def test_fewer_slices_than_asked() -> None:
    volume = {"image": torch.arange(4.0).reshape(1, 4, 1, 1)}
    repeat = SampleSlicesd("image", num_slices=10).set_random_state(0)(volume)
    assert repeat["image"].shape[1] == 10 == len(repeat["positions"])
    assert set(repeat["positions"].tolist()) == {13, 38, 63, 88}
    values = repeat["image"].flatten()
    assert torch.equal(values, values.sort().values)
    keep = SampleSlicesd("image", num_slices=10, fewer="all")(volume)
    assert keep["image"].shape[1] == 4 and keep["positions"].tolist() == [13, 38, 63, 88]
    for wrong in ({"num_slices": 0}, {"fewer": "none"}):
        with pytest.raises(ValueError, match="expected"):
            SampleSlicesd("image", **wrong)
    with pytest.raises(ValueError, match="expected equal numbers"):
        SampleSlicesd(["image", "b"])(
            {"image": torch.zeros(1, 4, 1, 1), "b": torch.zeros(1, 5, 1, 1)}
        )


def test_all_slices(item: dict) -> None:
    out = AllSlicesd("image", num_positions=10)(LoadOctVolumed("image")(item))
    assert out["image"].shape[1] == 100
    assert out["positions"].tolist() == relative_positions(100, 10).tolist()


def test_zero_means_nothing_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(30, 4, (10, 64, 48)).clip(1, 255)
    pixels[:, 20:28] = rng.normal(200, 10, (10, 8, 48)).clip(0, 255)  # a band of tissue
    pixels[:, :, :4] = 0  # not recorded
    path = write_nifti(tmp_path / "a.nii.gz", pixels.astype(np.uint8), Spacing())
    image = NormalizeOctd("image")(LoadOctVolumed("image")({"image": path}))["image"]
    assert image.dtype == torch.float32
    assert (image[..., :4] == 0).all()
    background, tissue = image[0, :, 40:, 8:], image[0, :, 21:27, 8:]
    assert abs(float(background.mean())) < 0.05 and 0.8 < float(tissue.mean()) < 1.1
    # the levels are the whole volume's: a choice of slices changes no pixel
    sliced = SampleSlicesd("image", 3).set_random_state(1)(LoadOctVolumed("image")({"image": path}))
    chosen = NormalizeOctd("image")(sliced)["image"]
    places = [(i - 1) // 10 for i in sliced["positions"].tolist()]
    assert torch.equal(chosen.as_tensor(), image[:, places].as_tensor())


def test_levels_by_number_and_without_meta() -> None:
    plain = torch.tensor([0, 20, 120, 220, 255], dtype=torch.uint8).reshape(1, 1, 1, 5)
    fixed = NormalizeOctd("x", background=20, bright=220, clip=1.1)({"x": plain})["x"]
    assert fixed.flatten().tolist() == pytest.approx([0, 0, 0.5, 1.0, 1.1])
    low, high = intensity_levels(PIXELS)
    free = NormalizeOctd("x", clip=None)({"x": torch.from_numpy(PIXELS)[None]})["x"]
    expected = np.where(PIXELS > 0, (PIXELS - low) / (high - low), 0)
    np.testing.assert_allclose(free[0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert intensity_levels(np.zeros((2, 8, 8), np.uint8)) == (0.0, 1.0)
    with pytest.raises(ValueError, match="more than background"):
        NormalizeOctd("x", background=5, bright=5)


def test_gamma_keeps_zero_and_one() -> None:
    gamma = RandGammad(["a", "b"], prob=1.0, gamma=(0.5, 0.5))
    x = torch.tensor([-0.25, 0.0, 0.25, 1.0])
    out = gamma({"a": x, "b": x.clone()})
    assert out["a"].tolist() == pytest.approx([-0.5, 0.0, 0.5, 1.0])
    assert torch.equal(out["a"], out["b"])
    assert RandGammad("a", prob=0.0)({"a": x})["a"] is x
    with pytest.raises(ValueError, match="gamma is"):
        RandGammad("a", gamma=(0.0, 1.0))


def _augment(seed: int, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square as image and mask, the same in three slices."""
    square = torch.zeros(1, 3, 40, 60)
    square[:, :, 10:20, 15:35] = 1.0
    augment = oct_augmentations(**options)
    augment.set_random_state(seed)  # type: ignore[attr-defined]
    out = augment({"image": square.clone(), "lesion": square.clone(), "label": 1})
    return torch.as_tensor(out["image"]), torch.as_tensor(out["lesion"])


def test_image_and_mask_move_together() -> None:
    moved = 0
    for seed in range(6):
        image, lesion = _augment(seed, prob=1.0, shift_rows=5, shift_columns=8, gamma=(1, 1))
        assert image.shape == lesion.shape == (1, 3, 40, 60)
        assert set(lesion.unique().tolist()) <= {0.0, 1.0}
        for number in (1, 2):  # all slices by the same move
            assert torch.equal(lesion[:, number], lesion[:, 0])
        inside = (image > 0.4) == (lesion > 0.5)
        assert inside.float().mean() > 0.97
        moved += not torch.equal(lesion[0, 0, 10:20, 15:35], torch.ones(10, 20))
    assert moved >= 4
    still = _augment(0, prob=0.0, flip_prob=0.0)
    assert still[0][0, 0, 10:20, 15:35].min() == 1 and still[0].sum() == 600
    flipped = _augment(0, prob=0.0, flip_prob=1.0)[1]
    assert flipped[0, 0, 10:20, 25:45].min() == 1 and flipped.sum() == 600


def test_augmentation_keeps_nothing_at_nothing() -> None:
    zero = {"image": torch.zeros(1, 3, 40, 60)}
    out = oct_augmentations(prob=1.0)(zero)["image"]
    assert torch.as_tensor(out).abs().max() == 0
