from __future__ import annotations

import numpy as np
import pytest

from ppi_med.segmentation.masking import (
    MaskRule,
    component_label,
    filled,
    kept_component,
    labelled,
    map_to_mask,
    prepared_map,
    random_walk,
    thresholded,
)
from tests.segmentation.made import disc


def blobs() -> np.ndarray:
    """A small strong one off the middle, a large weak one in it, a larger still in a corner."""
    values = np.zeros((30, 40))
    values[2:4, 30:33] = 5
    values[13:18, 18:23] = 2
    values[20:29, 1:12] = 1
    return values


@pytest.mark.parametrize(
    ("component", "place"),
    [("largest", (24, 5)), ("central", (15, 20)), ("peak", (3, 31))],
)
def test_components(component: str, place: tuple[int, int]) -> None:
    values = blobs()
    found = kept_component(values > 0, component, values)  # type: ignore[arg-type]
    assert found[place]
    assert (found == (values == values[place])).all()


def test_all_components_are_kept() -> None:
    values = blobs()
    assert (kept_component(values > 0, "all", values) == (values > 0)).all()


def test_corners_connect() -> None:
    assert labelled(np.eye(4, dtype=bool)).max() == 1


@pytest.mark.parametrize("seed", range(5))
def test_holes_are_those_of_scipy(seed: int) -> None:
    from scipy.ndimage import binary_fill_holes

    mask = np.random.default_rng(seed).random((17, 23)) < 0.55
    assert (filled(mask) == binary_fill_holes(mask)).all()
    volume = np.random.default_rng(seed).random((7, 8, 9)) < 0.6
    assert (filled(volume) == binary_fill_holes(volume)).all()


@pytest.mark.parametrize("mask", [np.zeros((3, 4), bool), np.ones((3, 4), bool)])
def test_holes_of_nothing_and_all(mask: np.ndarray) -> None:
    assert (filled(mask) == mask).all()


def test_thresholds_by_their_formula() -> None:
    values = np.random.default_rng(0).normal(size=(20, 21))
    std = thresholded(values, MaskRule("signed", threshold="std", level=1.5, fill_holes=False))
    assert (std == (values > values.mean() + 1.5 * values.std())).all()
    top = thresholded(values, MaskRule("signed", threshold="quantile", level=0.9, fill_holes=False))
    assert top.sum() == pytest.approx(42, abs=1)
    two = np.where(values > 0, 3.0, 1.0) + 0.01 * values
    parted = thresholded(two, MaskRule("signed", fill_holes=False))
    assert (parted == (values > 0)).all()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_the_size_of_a_map_does_not_matter(scale: float) -> None:
    values = blobs()
    for rule in (MaskRule(), MaskRule(threshold="std", level=1), MaskRule(smoothing_mm=1)):
        assert (map_to_mask(values * scale, rule) == map_to_mask(values, rule)).all()


@pytest.mark.parametrize("seed", range(4))
def test_otsu_by_trying_every_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(np.concatenate([rng.normal(0, 1, 40), rng.normal(3, 2, 20)]), 1)

    def within(level: float) -> float:
        low, high = values[values <= level], values[values > level]
        return float(low.size * low.var() + high.size * high.var())

    places = np.unique(values)
    best = min(within(level) for level in (places[1:] + places[:-1]) / 2)
    rule = MaskRule("signed", threshold="otsu", fill_holes=False)
    above = values[thresholded(values, rule)]
    assert within(above.min() - 1e-9) == pytest.approx(best)


def test_signs() -> None:
    values = np.array([[-4.0, 1.0, 0.0]])
    assert prepared_map(values, MaskRule("positive")).tolist() == [[0, 1, 0]]
    assert prepared_map(values, MaskRule("absolute")).tolist() == [[4, 1, 0]]
    assert prepared_map(values, MaskRule("signed")).tolist() == values.tolist()


def test_smoothing_is_in_mm() -> None:
    values = np.zeros((41, 41))
    values[20, 20] = 1
    fine = prepared_map(values, MaskRule(smoothing_mm=2), 0.5)
    coarse = prepared_map(values, MaskRule(smoothing_mm=2), (2.0, 2.0))
    spread = [float(np.sqrt((v.sum(0) * (np.arange(41) - 20) ** 2).sum())) for v in (fine, coarse)]
    assert spread == pytest.approx([4, 1], rel=0.05)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_map_has_no_mask(value: float) -> None:
    for threshold in ("otsu", "std", "quantile"):
        rule = MaskRule("signed", threshold=threshold)  # type: ignore[arg-type]
        assert not map_to_mask(np.full((5, 5), value), rule).any()


def test_three_axes() -> None:
    values = np.zeros((9, 10, 11))
    values[3:6, 4:7, 4:7] = 1
    assert (map_to_mask(values, MaskRule(), spacing_mm=(2.5, 0.7, 0.7)) == (values > 0)).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": "isodata"}, "expected one of otsu"),
        ({"component": "second"}, "expected one of all"),
        ({"smoothing_mm": -1}, "0 or more"),
        ({"threshold": "quantile", "level": 1.0}, "below 1"),
    ],
)
def test_wrong_rules(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MaskRule(**options)


def test_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        map_to_mask(np.array([[1.0, np.nan]]), MaskRule())


def test_the_random_walk_finds_the_edge() -> None:
    image = np.where(disc(15, 15, 6), 0.9, 0.1) + np.random.default_rng(0).normal(0, 0.02, (31, 31))
    hint = disc(16, 16, 4)
    rule = MaskRule(component="largest", refinement="random_walker", beta=500)
    found = map_to_mask(hint.astype(float), rule, image=image)
    wanted = disc(15, 15, 6)
    before = 2 * (hint & wanted).sum() / (hint.sum() + wanted.sum())
    after = 2 * (found & wanted).sum() / (found.sum() + wanted.sum())
    assert after > 0.97 > before


def test_the_random_walk_needs_an_image_and_leaves_nothing_alone() -> None:
    rule = MaskRule(refinement="random_walker")
    with pytest.raises(ValueError, match="needs the image"):
        map_to_mask(blobs(), rule)
    assert not map_to_mask(np.zeros((5, 5)), rule).any()
    everything = np.ones((5, 5), bool)
    assert random_walk(everything, everything * 1.0, np.zeros((5, 5))).all()
    with pytest.raises(ValueError, match="one shape"):
        random_walk(everything, everything * 1.0, np.zeros((5, 6)))


def test_component_by_hand() -> None:
    labels = np.array([[1, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0]], np.int32)
    values = np.array([[1, 1, 9, 7], [0, 0, 0, 0], [8, 0, 0, 0]], float)
    assert component_label(labels, "largest", values) == 1
    assert component_label(labels, "peak", values) == 3
    assert component_label(labels, "central", values) == 1
