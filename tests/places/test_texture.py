"""The texture of the whole image: planted, absent, or of one place only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ppi_med.errors import UsageError
from ppi_med.places import EvenOutside, ImageStack, Neutral, Search, search, texture
from ppi_med.places.texture import SILENT, THRESHOLD, common_levels
from tests.places.phantom import MARK, volumes


def stack_of(image: Tensor, label: Tensor, patient: Tensor | None = None) -> ImageStack:
    index = torch.arange(len(image))
    return ImageStack(image, label, index, torch.zeros_like(index), patient)


def scenes(count: int, side: int = 64, seed: int = 0) -> Tensor:
    """Smooth scenes under fine noise, one device for all."""
    generator = torch.Generator().manual_seed(seed)
    coarse = Neutral(6.0)(torch.randn(count, 1, side, side, generator=generator)) * 20
    return coarse + 0.3 * torch.randn(count, 1, side, side, generator=generator)


LABEL = torch.arange(120) % 2


def test_a_sharper_device_for_one_class_is_found_and_its_smoothing() -> None:
    image = scenes(120)
    image[LABEL == 1] = Neutral(0.7)(image[LABEL == 1])
    found = texture(stack_of(image, LABEL))
    assert found.shortcut
    assert found.median > 0.95
    assert found.neutral is not None
    assert found.neutral.sigma > 0
    *others, last = found.left.items()
    assert last[0] == found.neutral.name and last[1] < SILENT
    assert all(after >= SILENT for _, after in others)


def test_where_nothing_silences_it_the_one_that_leaves_least_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["ppi_med.places.texture"], "SILENT", 0.0)
    image = scenes(120)
    image[LABEL == 1] = Neutral(0.7)(image[LABEL == 1])
    found = texture(stack_of(image, LABEL))
    assert found.neutral is not None
    assert len(found.left) == 10
    assert found.left[found.neutral.name] == min(found.left.values())


def test_a_grey_curve_of_one_class_is_found_and_levelled() -> None:
    image = scenes(120)
    image[LABEL == 1] = image[LABEL == 1].sinh() * 0.5
    found = texture(stack_of(image, LABEL))
    assert found.shortcut
    assert found.neutral is not None
    assert found.neutral.levels is not None
    assert found.neutral.sigma == 0


@pytest.mark.parametrize("seed", range(5))
def test_no_alarm_without_a_device(seed: int) -> None:
    found = texture(stack_of(scenes(120, seed=seed), LABEL))
    assert not found.shortcut
    assert found.neutral is None
    assert found.median < 0.65


def test_no_alarm_where_the_detail_is_a_lesions() -> None:
    image = scenes(120)
    rough = 3 * torch.randn(60, 1, 20, 20, generator=torch.Generator().manual_seed(9))
    image[LABEL == 1, :, 22:42, 22:42] += rough
    found = texture(stack_of(image, LABEL))
    assert found.cells.max() > 0.95
    assert not found.shortcut


def test_images_of_a_patient_are_in_one_fold() -> None:
    """Three images of a patient share a texture of their own: it must not tell their class."""
    patient = torch.arange(40).repeat_interleave(3)
    label = patient % 2
    own = torch.rand(40, generator=torch.Generator().manual_seed(1)) * 4
    noise = torch.randn(120, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    image = noise * (0.5 + own[patient]).view(-1, 1, 1, 1)
    assert texture(stack_of(image, label, patient)).median < THRESHOLD


def test_three_classes_and_channels() -> None:
    label = torch.arange(150) % 3
    image = scenes(150, 32).repeat(1, 3, 1, 1)
    image[label == 2] *= 3.0
    assert texture(stack_of(image, label)).median > 0.6
    assert texture(stack_of(scenes(150, 32), label)).median < 0.65


def test_volumes_are_judged_by_their_means() -> None:
    unit = torch.arange(30).repeat_interleave(4)
    label, position = unit % 2, torch.arange(120) % 4
    image = scenes(120, 32)
    image[label == 1] = Neutral(0.7)(image[label == 1])
    found = texture(ImageStack(image, label, unit, position))
    assert found.median > 0.95


def test_smoothing_keeps_a_constant_image_and_nothing_is_done_for_zero() -> None:
    image = torch.full((2, 3, 9, 7), 4.0)
    np.testing.assert_allclose(Neutral(2.0)(image), image, rtol=1e-6)
    assert Neutral()(image) is image


def test_levels_are_those_of_the_units_and_a_monotone_curve_is_undone() -> None:
    image = scenes(8, 32)
    index = torch.arange(8)
    levels = common_levels(ImageStack(image, index % 2, index, 0 * index))
    oracle = np.mean(
        [np.quantile(one, np.linspace(0, 1, 33), method="nearest") for one in image], 0
    )
    np.testing.assert_allclose(levels[0], oracle, rtol=1e-5, atol=1e-5)
    plain, curved = Neutral(levels=levels)(image), Neutral(levels=levels)(image.sinh())
    left = float((plain - curved).abs().mean())
    assert left < 0.05 * float(plain.std())
    assert left < 0.1 * float((image - image.sinh()).abs().mean())


def test_what_is_written_beside_the_weights_is_read_back() -> None:
    image = torch.rand(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    neutral = Neutral(1.5, torch.linspace(-1, 1, 33)[None])
    again = Neutral.of(neutral.facts())
    torch.testing.assert_close(again(image), neutral(image))
    (seen,) = again.hook(torch.nn.Identity(), (image,))
    torch.testing.assert_close(seen, neutral(image))


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"sigma": "wide", "levels": None},
        {"sigma": -1, "levels": None},
        {"sigma": float("nan"), "levels": None},
        {"sigma": 1, "levels": [1.0]},
        {"sigma": 1, "levels": "x"},
    ],
)
def test_damaged_facts_are_refused(facts: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="copy both files again"):
        Neutral.of(facts)


def test_a_search_names_the_texture_and_finds_no_place() -> None:
    image = scenes(200, 32)
    label = torch.arange(200) % 2
    image[label == 1] = Neutral(0.7)(image[label == 1])
    index = torch.arange(200)
    stack = ImageStack(image, label, index, 0 * index)
    found = search(stack.chosen(index < 120), stack.chosen(index >= 120))
    assert (found.kind, found.recommended_method, found.rounds) == ("texture", "neutral", 1)
    assert not found.place.any()
    assert "smoothed" in found.reason


def test_a_search_with_a_texture_is_read_back(tmp_path: Path) -> None:
    image = scenes(200, 32)
    label = torch.arange(200) % 2
    image[label == 1] *= 2
    index = torch.arange(200)
    stack = ImageStack(image, label, index, 0 * index)
    path = tmp_path / "places.npz"
    found = search(stack.chosen(index < 120), stack.chosen(index >= 120), path=path)
    again = Search.load(path)
    assert again.summary() == found.summary()
    assert found.texture.neutral is not None and again.texture.neutral is not None
    torch.testing.assert_close(again.texture.neutral(image), found.texture.neutral(image))
    np.testing.assert_array_equal(again.texture.cells, found.texture.cells)


def test_levels_outside_a_place_are_those_that_a_slow_computation_finds() -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(4, 2, 5, 6, 7, generator=generator) + 2
    image[:, :, :, 0] = 0.0  # not recorded
    place = torch.zeros(6, 7, dtype=torch.bool)
    place[1:3, 2:5] = True
    even = EvenOutside(place, torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.3]))
    seen = even(image)
    for n in range(4):
        for c in range(2):
            own = [
                float(image[n, c, s, y, x])
                for s in range(5)
                for y in range(1, 6)
                for x in range(7)
                if not place[y, x]
            ]
            mean = sum(own) / len(own)
            deviation = (sum((v - mean) ** 2 for v in own) / len(own)) ** 0.5
            wanted = (image[n, c, :, 1:] - mean) / deviation * float(even.deviation[c])
            torch.testing.assert_close(seen[n, c, :, 1:], wanted + float(even.mean[c]))
    assert (seen[:, :, :, 0] == 0).all()
    torch.testing.assert_close(even(3 * image), seen)


def test_levels_outside_a_place_do_not_show_what_lies_in_it() -> None:
    """A normalisation by the brightest pixels is undone, whatever a mark did to it."""
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(3, 1, 4, 8, 8, generator=generator) + 0.1
    place = torch.zeros(8, 8, dtype=torch.bool)
    place[:2, :2] = True
    marked = image.clone()
    marked[..., place] = 5.0
    normalised = [one / one.amax((1, 2, 3, 4), keepdim=True) for one in (image, marked)]
    even = EvenOutside.like(place, image)
    plain, bright = (even(one)[..., ~place] for one in normalised)
    torch.testing.assert_close(plain, bright)
    mean, deviation = (float(one) for one in (even.mean, even.deviation))
    assert abs(float(plain.mean()) - mean) < 1e-4 and abs(float(plain.std()) - deviation) < 1e-2


@pytest.mark.parametrize(
    "broken",
    [
        {"mean": [0.0], "deviation": [1.0]},
        {"place": {"shape": [1, 1], "bits": "gA=="}, "mean": 0.0, "deviation": 1.0},
        {"place": {"shape": [1, 1], "bits": "gA=="}, "mean": ["x"], "deviation": [1.0]},
    ],
)
def test_broken_levels_outside_a_place(broken: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="copy both files again"):
        EvenOutside.of(broken)


def test_a_volume_is_changed_as_a_whole_and_its_b_scans_as_the_hook_does() -> None:
    stack = volumes(6, 1.0, 0)
    place = torch.zeros(24, 24, dtype=torch.bool)
    place[MARK] = True
    even = EvenOutside.like(place, [stack.image[stack.unit == k].transpose(0, 1) for k in range(6)])
    neutral = Neutral(1.0, common_levels(stack), even=even)
    changed = neutral.changed(stack).image
    whole = stack.image.view(6, -1, 1, 24, 24).transpose(1, 2)
    torch.testing.assert_close(changed.view(6, -1, 1, 24, 24).transpose(1, 2), neutral(whole))
    again = Neutral.of(json.loads(json.dumps(neutral.facts())))
    torch.testing.assert_close(again(whole), neutral(whole))
