"""What is empty, saturated, noise or foreign is told from what is like the training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ppi_med.evaluation.familiarity import (
    GREY,
    KnownInputs,
    doubts_about_pixels,
    features_of_items,
    grey_numbers,
    likeness,
    recorded_features,
)


def retina(seed: int, shape: tuple[int, int, int] = (4, 40, 60)) -> NDArray[np.uint8]:
    """A bright band with smooth speckle in a dark ground."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(30, 8, shape)
    top = rng.integers(10, 16)
    pixels[:, top : top + 9] += rng.normal(110, 6, (shape[0], 1, shape[2]))
    pixels = (pixels + np.roll(pixels, 1, axis=2)) / 2
    return np.clip(pixels, 0, 255).astype(np.uint8)


def plain_numbers(pixels: NDArray[Any]) -> list[float]:
    """The numbers, pixel by pixel."""
    values = [float(v) for v in pixels.ravel()]
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    stack = pixels.reshape(-1, *pixels.shape[-2:]).astype(float)
    rows = [row.mean() for plane in stack for row in plane]
    pairs = [
        (row[i] - mean) * (row[i + 1] - mean)
        for plane in stack
        for row in plane
        for i in range(len(row) - 1)
    ]
    return [
        mean,
        variance**0.5,
        values.count(min(values)) / len(values),
        values.count(max(values)) / len(values),
        sum(pairs) / len(pairs) / variance,
        float(np.var(rows)) / variance,
    ]


def test_the_numbers_are_what_they_say() -> None:
    pixels = retina(1, (2, 7, 9))
    found = grey_numbers(pixels)
    assert list(found) == list(GREY)
    np.testing.assert_allclose(list(found.values()), plain_numbers(pixels), rtol=1e-4)


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (np.zeros((3, 20, 30), np.uint8), "empty"),
        (np.full((3, 20, 30), 255, np.uint8), "empty"),
        (np.random.default_rng(0).integers(0, 256, (3, 40, 60)).astype(np.uint8), "noise"),
        (np.random.default_rng(0).integers(0, 2, (3, 40, 60)).astype(np.uint8) * 255, "saturated"),
    ],
)
def test_pixels_that_say_nothing(pixels: NDArray[np.uint8], word: str) -> None:
    assert any(text.startswith(word) for text in doubts_about_pixels(pixels))
    assert "unlike the data of the training" in likeness(pixels, pixels=pixels).warning


def test_a_retina_is_not_doubted() -> None:
    assert all(doubts_about_pixels(retina(seed)) == [] for seed in range(20))


def test_foreign_inputs_are_far_and_new_ones_of_the_kind_are_not() -> None:
    known = KnownInputs.of([grey_numbers(retina(seed) / 100) for seed in range(20)])
    assert known is not None
    for seed in range(20, 60):
        assert not likeness(retina(seed) / 100, known=known).reasons
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(60) / 3)[None, None] + np.zeros((4, 40, 1))
    for foreign in (
        rng.normal(size=(4, 40, 60)),
        np.zeros((4, 40, 60)),
        wave,
        retina(0).swapaxes(1, 2),
    ):
        assert "grey values: distance" in likeness(foreign, known=known).warning


def test_features_tell_what_grey_values_do_not() -> None:
    rng = np.random.default_rng(1)
    grey = [grey_numbers(retina(seed)) for seed in range(12)]
    known = KnownInputs.of(grey, rng.normal(2, 0.1, (12, 5)))
    assert known is not None and known == KnownInputs.read(json.loads(json.dumps(known.facts())))
    assert likeness(retina(1), np.full(5, 2.05), known).reasons == []
    assert "features: distance" in likeness(retina(1), np.full(5, 9.0), known).warning
    assert likeness(retina(1), np.zeros(7), known).distances.keys() == {"grey"}


def test_few_inputs_make_no_reference() -> None:
    assert KnownInputs.of([grey_numbers(retina(seed)) for seed in range(7)]) is None
    assert KnownInputs.read({}) is None


def test_features_are_those_before_the_last_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    images = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    with recorded_features(network) as found:
        network(images)
    expected = network[:3](images).detach().numpy()
    np.testing.assert_allclose(features_of_items(found, 2, sliced=False), expected, rtol=1e-6)
    assert not network[3]._forward_pre_hooks
    with pytest.raises(ZeroDivisionError), recorded_features(network):
        1 / 0  # noqa: B018
    assert not network[3]._forward_pre_hooks


def test_rows_of_slices_and_of_views() -> None:
    rows = torch.arange(6.0)[:, None]
    assert features_of_items([rows], 2, sliced=True).tolist() == [[1.0], [4.0]]
    assert features_of_items([rows], 2, sliced=False).tolist() == [[2.0], [3.0]]
    assert features_of_items([], 2, sliced=True) is None
