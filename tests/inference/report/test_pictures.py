"""Maps as pictures: grid, smoothing, scale."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from ppi_med.inference.report.pictures import (
    en_face,
    en_face_map,
    encode_maps,
    encode_slices,
    smoothed,
)


def decoded(encoded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))), float)


def test_a_map_is_averaged_to_the_grid_it_came_from() -> None:
    coarse = np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32)
    fine = coarse.repeat(4, axis=1).repeat(3, axis=2)
    maps = encode_maps(fine, (5, 6))
    assert maps.size == (5, 6)
    for number, plane in enumerate(coarse):
        expected = smoothed(plane)
        levels = (decoded(maps.data[number]) - 128) / 127
        np.testing.assert_allclose(levels * np.abs(expected).max(), expected, atol=0.02)


def test_the_loudest_slice_sets_the_scale() -> None:
    saliency = np.random.default_rng(1).normal(size=(4, 30, 40)).astype(np.float32)
    saliency[2] *= 10
    peaks = encode_maps(saliency).peaks
    assert int(np.argmax(peaks)) == 2
    assert 1 <= peaks[2] < 3
    assert max(peaks[:2]) < 0.3


def test_an_empty_map_stays_empty() -> None:
    maps = encode_maps(np.zeros((2, 8, 9), np.float32))
    assert maps.peaks == [0, 0]
    assert all((decoded(data) == 128).all() for data in maps.data)
    assert (decoded(en_face_map(np.zeros((2, 8, 9), np.float32))) == 128).all()


def test_signs_are_kept() -> None:
    saliency = np.zeros((1, 20, 20), np.float32)
    saliency[0, :10], saliency[0, 10:] = 1, -1
    levels = decoded(encode_maps(saliency).data[0])
    assert (levels[:8] > 250).all()
    assert (levels[12:] < 5).all()


def test_smoothing_keeps_the_sum() -> None:
    plane = np.random.default_rng(2).normal(size=(20, 30)).astype(np.float32)
    assert np.isclose(smoothed(plane).sum(), plane.sum(), atol=1e-3)


def test_seen_from_the_front_rows_are_slices() -> None:
    pixels = np.zeros((5, 10, 12), np.uint8)
    pixels[3, :, 7] = 200
    picture = decoded(en_face(pixels))
    assert picture.shape == (5, 12)
    assert np.unravel_index(picture.argmax(), picture.shape) == (3, 7)
    saliency = np.zeros(pixels.shape, np.float32)
    saliency[1, :, 4] = -1
    levels = decoded(en_face_map(saliency))
    assert np.unravel_index(levels.argmin(), levels.shape) == (1, 4)


def test_a_small_budget_costs_quality_not_slices() -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (6, 64, 64)).astype(np.uint8)
    best = encode_slices(pixels, 10_000_000)
    least = encode_slices(pixels, 1)
    assert best.quality > least.quality
    assert len(best.data) == len(least.data) == 6
    assert sum(map(len, least.data)) < sum(map(len, best.data))
