"""Grids: area means and their adjoint, against loops written slowly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppi_med.data.oct.fit import (
    describe_fit,
    fit_slices,
    fitted_axes,
    fitting_matrices,
    padding_matrix,
    resampling_matrix,
    spread_map,
    spread_mask,
)
from ppi_med.data.oct.prepare import pad_width

SHAPES = [
    ((12, 9), (6, 3)),
    ((7, 10), (3, 4)),
    ((5, 6), (5, 6)),
    ((8, 5), (8, 9)),
    ((4, 5), (9, 7)),
    ((496, 512), (64, 96)),
    ((1, 1), (3, 2)),
]


def area_mean(signal: np.ndarray, target: int) -> np.ndarray:
    """Integrate the step function through the samples over equal intervals, a crumb at a time."""
    crumbs = np.repeat(signal, target)  # each sample in `target` equal pieces
    return crumbs.reshape(target, len(signal)).mean(1)


@pytest.mark.parametrize(("source", "target"), [(12, 6), (7, 3), (10, 4), (96, 96), (512, 96)])
def test_fewer_samples_are_area_means(source: int, target: int) -> None:
    signal = np.random.default_rng(source).normal(size=source)
    got = resampling_matrix(source, target).numpy() @ signal
    np.testing.assert_allclose(got, area_mean(signal, target), atol=1e-12)


@pytest.mark.parametrize(("source", "target"), [(4, 9), (1, 3), (5, 6)])
def test_more_samples_are_interpolated(source: int, target: int) -> None:
    signal = np.random.default_rng(source).normal(size=source)
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    expected = np.interp(centres, np.arange(source), signal)
    np.testing.assert_allclose(resampling_matrix(source, target).numpy() @ signal, expected)


@pytest.mark.parametrize(("source", "target"), [(5, 5), (5, 9), (4, 9), (1, 4)])
def test_padding_is_that_of_the_conversion(source: int, target: int) -> None:
    row = np.random.default_rng(0).integers(0, 255, (1, 1, source)).astype(np.uint8)
    expected = pad_width(row, target)[0]
    got = padding_matrix(source, target) @ torch.from_numpy(row[0, 0]).double()
    assert got.tolist() == expected[0, 0].tolist()


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_every_pixel_is_a_weighted_mean(shape: tuple[int, int], size: tuple[int, int]) -> None:
    for matrix in fitting_matrices(shape, size):
        assert (matrix >= 0).all()
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix), dtype=torch.float64))
    fitted = fit_slices(torch.full((1, 2, *shape), 7, dtype=torch.uint8), size)
    assert fitted.shape == (1, 2, *size)
    torch.testing.assert_close(fitted.float(), torch.full_like(fitted.float(), 7.0))


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_the_way_back_is_the_adjoint_and_keeps_sums(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(1)
    volume = torch.randn(20, *shape, generator=generator)
    saliency = torch.randn(20, *size, generator=generator)
    spread = spread_map(saliency, shape)
    assert spread.shape == volume.shape
    assert spread.dtype == torch.float32
    here = (fit_slices(volume, size).double() * saliency.double()).sum((1, 2))
    there = (volume.double() * spread.double()).sum((1, 2))
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(spread.sum((1, 2)), saliency.sum((1, 2)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_fitted_pixels_lie_where_they_are_said_to(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    for matrix, (step, first) in zip(
        fitting_matrices(shape, size), fitted_axes(shape, size), strict=True
    ):
        places = torch.arange(matrix.shape[1], dtype=torch.float64)
        said = first + step * torch.arange(matrix.shape[0], dtype=torch.float64)
        # A sample that is cut counts with its whole centre: up to an eighth of a pixel.
        said = said.clamp(0, len(places) - 1)
        torch.testing.assert_close(matrix @ places, said, rtol=0, atol=0.125)


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_a_pixel_is_in_a_mask_where_the_fitted_pixel_over_its_centre_is(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    mask = torch.rand(size, generator=torch.Generator().manual_seed(0)) < 0.5
    spread = spread_mask(mask, shape)
    assert spread.dtype == torch.bool and spread.shape == shape

    def over(place: int, own: int, fitted: int) -> list[int]:
        """Return the fitted pixels that cover the centre; two where it is on their border."""
        step = own / fitted
        return [i for i in range(fitted) if i * step <= place + 0.5 <= (i + 1) * step]

    padded = shape[0] == size[0] and shape[1] <= size[1]
    for row in range(shape[0]):
        for column in range(shape[1]):
            rows = over(row, shape[0], size[0])
            left = (size[1] - shape[1]) // 2
            columns = [column + left] if padded else over(column, shape[1], size[1])
            expected = {bool(mask[r, c]) for r in rows for c in columns}
            assert bool(spread[row, column]) in expected


def test_slices_do_not_mix() -> None:
    volume = torch.zeros(40, 8, 8)
    volume[17] = 5
    fitted = fit_slices(volume, (4, 4))
    assert fitted[17].eq(5).all()
    assert fitted.sum() == 5 * 16


def test_a_volume_of_the_right_size_is_left_alone() -> None:
    volume = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    assert fit_slices(volume, (4, 5)) is volume


def test_words() -> None:
    assert "as they are" in describe_fit((4, 5), (4, 5))
    assert "padded" in describe_fit((64, 80), (64, 96))
    assert "resampled" in describe_fit((64, 100), (64, 96))


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        resampling_matrix(0, 3)
    with pytest.raises(ValueError, match="as many or more"):
        padding_matrix(4, 3)
