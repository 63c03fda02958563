"""The search as a whole: what is found, what is not, and that it leaves no trace."""

from __future__ import annotations

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


def test_grey_levels_go_before_a_place_that_shows_little_of_them() -> None:
    """A mark is found, but the whole image tells the class much better."""

    def curved(count: int, seed: int) -> ImageStack:
        stack = volumes(count, 0.9, seed)
        own = stack.label == 1
        stack.image[own] *= 0.7
        return stack

    found = search(curved(60, 0), curved(40, 1), FAST)
    assert (found.kind, found.recommended_method) == ("texture", "neutral")
    assert not found.place.any()
    assert found.places[0].j >= 0.25 and not found.places[0].accepted
