from __future__ import annotations

import math

import pytest
import torch

from ppi_med.intervention import SaliencyToMap, gaussian_smooth
from ppi_med.intervention.maps import NORMALISATIONS, REDUCTIONS


def slow_map(saliency, reduce, normalise):
    """The map of one sample (C, *spatial), number by number."""
    channels = [c.flatten().tolist() for c in saliency]
    points = list(zip(*channels, strict=True))
    rule = {
        "abs_sum": lambda p: sum(abs(v) for v in p),
        "positive_sum": lambda p: sum(max(v, 0.0) for v in p),
        "sum": lambda p: max(sum(p), 0.0),
        "abs_of_sum": lambda p: abs(sum(p)),
        "max_abs": lambda p: max(abs(v) for v in p),
    }[reduce]
    values = [rule(p) for p in points]
    mean = sum(values) / len(values)
    scale = {
        "max": max(values),
        "std": math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)),
        "l2": math.sqrt(sum(v * v for v in values)),
        "mean": mean,
        "none": 1.0,
    }[normalise]
    return torch.tensor([v / scale for v in values], dtype=saliency.dtype).view(saliency.shape[1:])


def random_saliency(*shape, dtype=torch.float64, seed=0):
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).to(dtype)


@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (2, 1, 3, 4, 5), (2, 3, 6)])
@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_equals_number_by_number(reduce, normalise, shape):
    saliency = random_saliency(*shape)
    maps = SaliencyToMap(reduce, normalise)(saliency)
    assert maps.shape == (shape[0], 1, *shape[2:])
    assert (maps >= 0).all()
    for sample, one in zip(saliency, maps, strict=True):
        assert torch.allclose(one[0], slow_map(sample, reduce, normalise), rtol=1e-12)


@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_gradient(reduce, normalise):
    saliency = random_saliency(2, 2, 3, 3).requires_grad_()
    to_map = SaliencyToMap(reduce, normalise, smooth_sigma=0.7)
    assert torch.autograd.gradcheck(to_map, saliency)


@pytest.mark.parametrize("normalise", [n for n in NORMALISATIONS if n != "none"])
def test_scale_of_the_saliency_does_not_matter(normalise):
    saliency = random_saliency(2, 1, 6, 6)
    to_map = SaliencyToMap(normalise=normalise, smooth_sigma=1.0)
    assert torch.allclose(to_map(saliency), to_map(saliency * 1e-7), rtol=1e-9)


def test_order_is_reduce_then_smooth_then_normalise():
    saliency = random_saliency(2, 3, 6, 5)
    smoothed = gaussian_smooth(saliency.abs().sum(1, keepdim=True), 1.2)
    expected = smoothed / smoothed.amax((1, 2, 3), keepdim=True)
    assert torch.allclose(SaliencyToMap(smooth_sigma=1.2)(saliency), expected)


def test_slices_are_not_smoothed_into_each_other():
    saliency = torch.zeros(1, 1, 3, 8, 8)
    saliency[0, 0, 1, 4, 4] = 1
    maps = SaliencyToMap(smooth_sigma=1.0, smooth_dims=2)(saliency)
    assert maps[0, 0, 1].sum() > 1
    assert maps[0, 0, [0, 2]].abs().sum() == 0


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_constant_saliency_gives_finite_map_and_gradient(normalise, value):
    saliency = torch.full((2, 1, 7, 7), value, requires_grad=True)
    maps = SaliencyToMap(normalise=normalise, smooth_sigma=0.5)(saliency)
    (gradient,) = torch.autograd.grad((maps * torch.arange(7.0)).sum(), saliency)
    assert maps.isfinite().all() and maps.max() < 10
    assert gradient.isfinite().all()
    if value == 0:
        assert (maps == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    saliency = random_saliency(2, 1, 8, 8, dtype=dtype)
    maps = SaliencyToMap(smooth_sigma=1.0)(saliency)
    assert maps.dtype == torch.float32
    assert torch.equal(maps, SaliencyToMap(smooth_sigma=1.0)(saliency.float()))


def test_channels_in_half_precision_do_not_overflow():
    saliency = torch.full((1, 3, 4, 4), 6e4, dtype=torch.float16)
    assert (SaliencyToMap(normalise="none")(saliency) > 1.7e5).all()


def test_autocast_changes_nothing():
    saliency = random_saliency(2, 1, 8, 8, dtype=torch.float32)
    to_map = SaliencyToMap(normalise="std", smooth_sigma=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = to_map(saliency)
    assert torch.equal(inside, to_map(saliency))


def test_nan_is_not_hidden():
    saliency = random_saliency(1, 1, 4, 4)
    saliency[0, 0, 0, 0] = torch.nan
    for normalise in NORMALISATIONS:
        assert SaliencyToMap(normalise=normalise)(saliency).isnan().any()


def test_batch_is_one_by_one():
    saliency = random_saliency(4, 2, 6, 6)
    to_map = SaliencyToMap(normalise="l2", smooth_sigma=1.0)
    singles = torch.cat([to_map(s[None]) for s in saliency])
    assert torch.allclose(to_map(saliency), singles)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="reduce='mean' is unknown: use one of abs_sum"):
        SaliencyToMap(reduce="mean")
    with pytest.raises(ValueError, match="normalise='minmax' is unknown"):
        SaliencyToMap(normalise="minmax")
    with pytest.raises(ValueError, match="sigma is -1"):
        SaliencyToMap(smooth_sigma=-1.0)
    with pytest.raises(TypeError, match="int64"):
        SaliencyToMap()(torch.ones(1, 1, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected \\(N, C, \\*spatial\\)"):
        SaliencyToMap()(torch.ones(4, 4))
    with pytest.raises(ValueError, match="skip empty batches"):
        SaliencyToMap()(torch.ones(0, 1, 4, 4))
