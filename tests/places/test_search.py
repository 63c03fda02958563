"""The search as a whole: what is found, what is not, and that it leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ppi_med.errors import UsageError
from ppi_med.networks import MultiViewClassifier
from ppi_med.places import ImageStack, Search, SearchSettings, exchange_effect, search
from tests.places.phantom import MARK, images, volumes

FAST = SearchSettings(steps=(60, 60), repeats=20)


@pytest.mark.parametrize("agreement", [1.0, 0.9])
def test_finds_the_mark_of_volumes(agreement: float) -> None:
    found = search(volumes(60, agreement, 0), volumes(40, agreement, 1))
    assert (found.kind, found.recommended_method) == ("place", "ppi_wbp_place")
    assert found.shortcut and found.j_net >= 0.3
    assert found.place[MARK].all()
    assert found.place.mean() < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_raises_no_alarm_without_a_mark(seed: int) -> None:
    found = search(volumes(60, None, 10 + seed), volumes(40, None, 20 + seed))
    assert (found.kind, found.recommended_method) == ("none", "plain")
    assert not found.place.any()


def test_a_second_round_finds_a_second_mark() -> None:
    def both(count: int, seed: int) -> ImageStack:
        stack = volumes(count, 1.0, seed)
        stack.image[stack.label == 1, :, 18:22, 3:8] = 1.5
        return stack

    found = search(both(60, 0), both(40, 1), SearchSettings(share=0.02, grow=1))
    assert found.place[MARK].all() and found.place[18:22, 3:8].all()


def test_2d_finds_a_mark_and_leaves_the_lesion_alone() -> None:
    found = search(images(200, 1.0, 0), images(100, 1.0, 1))
    assert found.kind == "place" and found.place[MARK].all()
    clean = search(images(200, None, 2), images(100, None, 3))
    assert clean.auc > 0.8, "there is something to learn"
    assert clean.kind == "none" and not clean.place.any()


def test_leaves_the_random_state_and_repeats_itself() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = search(volumes(30, 1.0, 0), volumes(20, 1.0, 1), FAST, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    two = search(volumes(30, 1.0, 0), volumes(20, 1.0, 1), FAST, seed=3)
    assert one.summary() == two.summary()
    assert np.array_equal(one.place, two.place)


def test_save_and_load(tmp_path: Path) -> None:
    found = search(volumes(30, 1.0, 0), volumes(20, 1.0, 1), FAST)
    found.save(tmp_path / "places.npz")
    again = Search.load(tmp_path / "places.npz")
    assert again.summary() == found.summary()
    assert all(
        np.array_equal(a.mask, b.mask) for a, b in zip(again.places, found.places, strict=True)
    )
    x = torch.rand(2, 1, 24, 24)
    assert again.network is not None and found.network is not None
    assert torch.equal(again.network(x), found.network(x))
    assert not again.network.training


def test_a_network_of_volumes_is_asked_slice_by_slice() -> None:
    def made() -> MultiViewClassifier:
        return MultiViewClassifier(backbone_options={"downsampling": "stride", "widths": [8, 16]})

    found = search(volumes(40, 1.0, 0), volumes(30, 1.0, 1), network=made)
    assert found.place[MARK].all()


def test_exchange_effect_shows_what_hangs_on_the_place() -> None:
    validation = volumes(40, 1.0, 1)
    found = search(volumes(60, 1.0, 0), validation, FAST)
    assert found.network is not None
    effect = exchange_effect(found.network, validation, found.place)
    assert effect["clean"] > 0.95 and effect["same"] > 0.95
    assert effect["other"] < 0.3, "the other class's mark reverses the answer"


def test_wrong_input_is_answered() -> None:
    stack = volumes(10, 1.0, 0)
    with pytest.raises(UsageError, match="two or more"):
        stack.chosen(stack.label == 0)
    with pytest.raises(UsageError, match="expected one shape"):
        search(stack, ImageStack(stack.image[..., 2:], stack.label, stack.unit, stack.position))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04cut"])
def test_a_damaged_file_is_answered(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "places.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="holds no places"):
        Search.load(path)
    with pytest.raises(UsageError, match="run the search first"):
        Search.load(tmp_path / "none.npz")


def test_a_mark_of_volumes_that_changes_their_grey_levels_is_a_place() -> None:
    """As a normalisation by the brightest pixels does."""

    def dimmed(count: int, seed: int) -> ImageStack:
        stack = volumes(count, 1.0, seed)
        stack.image[stack.label == 1] *= 0.6
        return stack

    found = search(dimmed(60, 0), dimmed(40, 1), FAST)
    assert found.texture.shortcut and found.kind == "place"
    assert found.place[MARK].mean() > 0.9


def dimmer(count: int, seed: int) -> ImageStack:
    """A mark that moves the brightness of its volume."""
    stack = volumes(count, 0.9, seed)
    stack.image[stack.label == 1] *= 0.7
    return stack


def test_a_mark_that_moves_the_brightness_of_its_volume_is_taken_away_with_that(
    tmp_path: Path,
) -> None:
    lines: list[str] = []
    found = search(dimmer(60, 0), dimmer(40, 1), FAST, progress=lines.append)
    assert (found.kind, found.recommended_method) == ("place", "ppi_wbp_place")
    assert found.place[MARK].all()
    assert found.neutral is not None and found.neutral.even is not None
    assert found.neutral.levels is None and found.neutral.sigma == 0
    assert found.left < 0.3 < found.history[1]["j_net"], "the place alone leaves the brightness"
    assert "brightness and contrast made alike" in found.reason
    assert sum("brightness" in line for line in lines) == 1
    found.save(tmp_path / "places.npz")
    again = Search.load(tmp_path / "places.npz")
    assert again.summary() == found.summary() and again.neutral is not None
    x = volumes(2, 1.0, 5).image[:6].transpose(0, 1)[None]
    torch.testing.assert_close(again.neutral(x), found.neutral(x))


@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_stopped_search_of_changed_images_goes_on_as_if_never_stopped(
    stopped_after: int, tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if line.startswith(f"round {stopped_after}"):
            raise KeyboardInterrupt

    data = dimmer(60, 0), dimmer(40, 1)
    path = tmp_path / "places.npz"
    with pytest.raises(KeyboardInterrupt):
        search(*data, FAST, progress=stop, path=path)
    assert search(*data, FAST, path=path).summary() == search(*data, FAST).summary()


def test_another_grey_curve_is_a_texture_without_a_place() -> None:
    def curved(count: int, seed: int) -> ImageStack:
        stack = volumes(count, None, seed)
        own = (stack.label == 1).view(-1, 1, 1, 1)
        return replace(
            stack, image=torch.where(own, stack.image.sign() * stack.image**2, stack.image)
        )

    found = search(curved(60, 0), curved(40, 1), FAST)
    assert (found.kind, found.recommended_method) == ("texture", "neutral")
    assert found.neutral is not None and found.neutral.levels is not None
    assert not found.place.any() and found.left < 0.3 < found.j_net


def test_says_what_is_left() -> None:
    """Stripes over whole volumes, beside a mark: the sentence says what stays."""

    def noisy(count: int, seed: int) -> ImageStack:
        stack = volumes(count, 1.0, seed)
        row = torch.linspace(0, 40, stack.image.shape[-1]).sin() * 0.3
        stack.image[stack.label == 1] += row
        return stack

    found = search(noisy(60, 0), noisy(40, 1), FAST)
    assert found.shortcut and found.left >= 0.3
    assert f"J_net {found.left:.2f}" in found.reason and "may not remove all" in found.reason


def test_a_black_frame_is_a_place_and_no_texture() -> None:
    """An aperture takes more than a fifth of the image, its rim crosses half of all cells."""
    generator = torch.Generator().manual_seed(5)
    count = 240
    ground = torch.rand(count, 1, 12, 12, generator=generator)
    image = torch.nn.functional.interpolate(ground, (48, 48), mode="bilinear") + 0.5
    image += 0.05 * torch.randn(image.shape, generator=generator)
    label, index = torch.arange(count) % 2, torch.arange(count)
    axis = torch.linspace(-1, 1, 48)
    outside = axis.square().view(-1, 1) + axis.square() > 1.05
    image[label == 1] *= ~outside
    stack = ImageStack(image, label, index, 0 * index)
    found = search(stack.chosen(index < 160), stack.chosen(index >= 160))
    assert found.kind == "place" and not found.texture.everywhere
    # Which pixels of the frame are left hangs on the last digits of a training: 7 to 15 % of them.
    assert found.place[outside].mean() > 0.7 and found.place[~outside].mean() < 0.25
    assert found.place.mean() > SearchSettings().max_share
