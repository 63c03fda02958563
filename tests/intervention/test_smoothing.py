from __future__ import annotations

import math

import pytest
import torch

from ppi_med.intervention.smoothing import gaussian_smooth, gaussian_weights


def slow_smooth(image, sigmas):
    """Renormalised Gaussian smoothing of one (H, W) list of lists, pixel by pixel."""
    height, width = image.shape
    reach = [max(1, math.ceil(3 * s)) if s else 0 for s in sigmas]
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            total = norm = 0.0
            for a in range(max(0, i - reach[0]), min(height, i + reach[0] + 1)):
                for b in range(max(0, j - reach[1]), min(width, j + reach[1] + 1)):
                    w = 1.0
                    if sigmas[0]:
                        w *= math.exp(-0.5 * ((a - i) / sigmas[0]) ** 2)
                    if sigmas[1]:
                        w *= math.exp(-0.5 * ((b - j) / sigmas[1]) ** 2)
                    total += w * float(image[a, b])
                    norm += w
            out[i, j] = total / norm
    return out


@pytest.mark.parametrize("sigmas", [(1.0, 1.0), (0.4, 2.0), (0.0, 1.3), (3.0, 3.0)])
def test_equals_pixel_by_pixel(sigmas):
    image = torch.rand(2, 3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    smoothed = gaussian_smooth(image, sigmas)
    for n in range(2):
        for c in range(3):
            assert torch.allclose(smoothed[n, c], slow_smooth(image[n, c], sigmas), atol=1e-12)


def test_inner_pixels_equal_scipy():
    from scipy.ndimage import gaussian_filter

    image = torch.rand(
        1, 1, 30, 31, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    ours = gaussian_smooth(image, 1.0)[0, 0, 3:-3, 3:-3]
    theirs = torch.from_numpy(gaussian_filter(image[0, 0].numpy(), 1.0, truncate=3.0))[3:-3, 3:-3]
    assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 1, 9), (2, 1, 4, 6), (1, 2, 3, 4, 5), (1, 1, 2, 3, 4, 3)])
def test_constant_stays_constant_in_any_number_of_dimensions(shape):
    image = torch.full(shape, 0.7, dtype=torch.float64)
    assert torch.allclose(gaussian_smooth(image, 2.5), image, atol=1e-12)


def test_only_the_last_axes_are_smoothed():
    volume = torch.rand(1, 1, 4, 6, 5, generator=torch.Generator().manual_seed(3))
    smoothed = gaussian_smooth(volume, 1.0, dims=2)
    for s in range(4):
        assert torch.allclose(smoothed[:, :, s], gaussian_smooth(volume[:, :, s], 1.0))


def test_sigma_zero_is_the_identity():
    image = torch.rand(1, 1, 4, 4)
    assert torch.equal(gaussian_smooth(image, 0.0), image)


def test_gradient():
    image = torch.rand(1, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gaussian_smooth(x, 0.8), image)


def test_weights_sum_to_one_and_are_symmetric():
    for sigma in (0.1, 0.5, 1.0, 4.2):
        weights = gaussian_weights(sigma)
        assert sum(weights) == pytest.approx(1)
        assert weights == pytest.approx(weights[::-1])


@pytest.mark.parametrize(
    ("sigma", "dims", "part"),
    [(-1.0, None, "sigma is -1"), (float("nan"), None, "sigma is nan"), ((1.0,), 2, "1 values"),
     (1.0, 3, "last 3 axes"), (1.0, 0, "last 0 axes")],
)  # fmt: skip
def test_wrong_arguments(sigma, dims, part):
    with pytest.raises(ValueError, match=part):
        gaussian_smooth(torch.rand(1, 1, 4, 4), sigma, dims)
