from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from ppi_med.experiments.weak_segmentation.cases import view_of
from ppi_med.experiments.weak_segmentation.maps import (
    bright_component,
    bright_component_in_disc,
    disc_mask,
    random_map,
    reader_agreement,
)
from ppi_med.segmentation.grid import NetworkGrid
from ppi_med.segmentation.scores import quick_dice, score_case, scores_against
from tests.segmentation.made import disc, made_case

SPACING = (0.7, 0.7)
GRID = NetworkGrid(20)


def slow_hd95(a: np.ndarray, b: np.ndarray, spacing: tuple[float, float]) -> float:
    """From every border point of the one to the nearest of the other, both ways."""

    def border(mask: np.ndarray) -> np.ndarray:
        return np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing)

    p, q = border(a), border(b)
    gaps = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    return max(float(np.percentile(gaps.min(1), 95)), float(np.percentile(gaps.min(0), 95)))


@pytest.mark.parametrize("seed", range(4))
def test_scores_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = disc(*rng.uniform(10, 20, 2), float(rng.uniform(3, 7)))
    b = disc(*rng.uniform(10, 20, 2), float(rng.uniform(3, 7)))
    spacing = (0.7, 1.3)
    found = scores_against(a, {"x": b}, spacing)
    both, either = (a & b).sum(), (a | b).sum()
    assert found["dice_x"] == pytest.approx(2 * both / (a.sum() + b.sum()), abs=1e-6)
    assert found["iou_x"] == pytest.approx(both / either, abs=1e-6)
    assert found["hd95_mm_x"] == pytest.approx(slow_hd95(a, b, spacing), abs=1e-4)
    assert quick_dice(a, b) == pytest.approx(found["dice_x"], abs=1e-6)


def test_an_empty_mask_is_as_far_as_can_be() -> None:
    view = view_of(made_case(1, "test"), GRID)
    found = score_case(np.zeros((31, 31), bool), view.references, SPACING)
    assert found["dice_union"] == found["iou_majority"] == found["dice_reader1"] == 0
    assert found["hd95_mm_union"] == pytest.approx(31 * 0.7 * math.sqrt(2), rel=1e-5)


def test_the_readers_mean() -> None:
    view = view_of(made_case(1, "test"), GRID)
    found = score_case(disc(15, 15, 4), view.references, SPACING)
    for measure in ("dice", "iou", "hd95_mm"):
        one, three = found[f"{measure}_reader1"], found[f"{measure}_reader3"]
        assert found[f"{measure}_readers"] == pytest.approx((one + three) / 2)
    assert "hd95_mm_union" not in score_case(
        disc(15, 15, 4), view.references, SPACING, distances=False
    )


def test_the_ceiling() -> None:
    view = view_of(made_case(1, "test"), GRID)
    found = reader_agreement(view)
    masks = [view.readers[0], view.readers[2]]
    pairs = [quick_dice(a, b) for a, b in combinations(masks, 2)]
    assert found["dice_mutual"] == pytest.approx(np.mean(pairs), abs=1e-6)
    assert found["dice_union"] == pytest.approx(
        np.mean([quick_dice(m, view.union) for m in masks]), abs=1e-6
    )
    assert set(reader_agreement(view, distances=False)) == {
        "dice_mutual", "iou_mutual", "dice_union", "iou_union",
    }  # fmt: skip


def test_one_reader_has_nobody_to_agree_with() -> None:
    case = made_case(1, "test")
    alone = view_of(
        type(case)(**{**vars(case), "drawn": np.array([True, False, False, False])}), GRID
    )
    assert all(math.isnan(value) for value in reader_agreement(alone).values())


def test_the_disc_is_in_mm_about_the_middle() -> None:
    view = view_of(made_case(1, "test"), GRID)
    assert (disc_mask(4 * 0.7 + 1e-6, view) == disc(15, 15, 4)).all()
    shifted = view_of(made_case(1, "test"), NetworkGrid(20, 14.0), "shifted", seed=1)
    found = np.argwhere(disc_mask(3.0, shifted)).mean(axis=0)
    assert found == pytest.approx([9.5, 9.5])


def test_bright_tissue_is_the_disc() -> None:
    view = view_of(made_case(1, "test"), GRID)
    assert (bright_component(-400.0, view) == view.readers[0]).all()


def test_a_vessel_at_the_lesion_ends_where_the_disc_ends() -> None:
    case = made_case(1, "test")
    image = case.image.copy()
    image[15, :] = 0.0  # a vessel through the whole patch
    view = view_of(replace(case, image=image), GRID)
    lesion = view.readers[0]
    assert bright_component(-400.0, view).sum() > lesion.sum() + 10
    found = bright_component_in_disc((-400.0, 6 * 0.7 + 1e-6), view)
    wanted = lesion.copy()
    wanted[15, 9:22] = True
    assert (found == wanted).all()
    assert not bright_component_in_disc((300.0, 4.2), view).any()


def test_the_random_map_depends_on_seed_and_case_alone() -> None:
    one, other = (view_of(made_case(n, "test"), GRID) for n in (1, 2))
    assert (random_map(one, GRID) == random_map(one, GRID)).all()
    assert (random_map(one, GRID) != random_map(other, GRID)).any()
    assert (random_map(one, GRID) != random_map(one, GRID, seed=1)).any()


def test_a_wrong_reference_is_named() -> None:
    with pytest.raises(ValueError, match="reference a"):
        scores_against(np.ones((3, 3), bool), {"a": np.zeros((3, 3), bool)}, (1.0, 1.0))
