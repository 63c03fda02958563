from __future__ import annotations

import itertools
import math

import pytest
import torch

from ppi_med.intervention import (
    AdaptiveMask,
    BoxMask,
    HardMask,
    RandomPlace,
    SaliencyToMap,
    SoftMask,
    TopKMask,
)

SHAPES = [(3, 1, 9, 7), (2, 1, 4, 5, 6), (2, 1, 11)]
DIFFERENTIABLE = [SoftMask(), SoftMask(0.4, 5), AdaptiveMask(), AdaptiveMask(0.5, 3, "std")]
STEPS = [HardMask(1.0), HardMask(0.5, "mean"), BoxMask(), BoxMask(0.4), TopKMask(5)]
ALL = [*DIFFERENTIABLE, *STEPS, RandomPlace(SoftMask()), RandomPlace(BoxMask())]
NAMES = [f"{i}-{type(m).__name__}" for i, m in enumerate(ALL)]


def random_map(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return SaliencyToMap()(torch.randn(*shape, dtype=torch.float64, generator=generator)).to(dtype)


def logistic(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def mean_std(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))


def slow_soft(m, sigma=0.25, omega=100.0):
    return [logistic(omega * (v - sigma)) for v in m.flatten().tolist()]


def slow_adaptive(m, k, omega, units="map"):
    values = m.flatten().tolist()
    mean, std = mean_std(values)
    slope = omega if units == "map" else omega / std
    return [logistic(slope * (v - mean - k * std)) for v in values]


def slow_hard(m, k, above="zero"):
    values = m.flatten().tolist()
    mean, std = mean_std(values)
    return [float(v > k * std + (mean if above == "mean" else 0)) for v in values]


def slow_top(m, k):
    values = m.flatten().tolist()
    best = sorted(range(len(values)), key=lambda i: -values[i])[:k]
    return [float(i in best and values[i] > 0) for i in range(len(values))]


def slow_box(m, k):
    places = list(itertools.product(*(range(n) for n in m.shape)))
    total = sum(float(m[p]) for p in places)
    limits = []
    for axis in range(m.dim()):
        centre = sum(float(m[p]) * p[axis] for p in places) / total
        spread = math.sqrt(sum(float(m[p]) * (p[axis] - centre) ** 2 for p in places) / total)
        limits.append((centre - k * spread, centre + k * spread))
    return [
        float(all(low <= c <= high for c, (low, high) in zip(p, limits, strict=True)))
        for p in places
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("mask", "slow"),
    [
        (SoftMask(), slow_soft),
        (SoftMask(0.6, 7.0), lambda m: slow_soft(m, 0.6, 7.0)),
        (AdaptiveMask(1.0, 20.0), lambda m: slow_adaptive(m, 1.0, 20.0)),
        (AdaptiveMask(0.3, 2.0, "std"), lambda m: slow_adaptive(m, 0.3, 2.0, "std")),
        (HardMask(2.0), lambda m: slow_hard(m, 2.0)),
        (HardMask(1.0, "mean"), lambda m: slow_hard(m, 1.0, "mean")),
        (BoxMask(), lambda m: slow_box(m, 1.2)),
        (BoxMask(0.7), lambda m: slow_box(m, 0.7)),
        (TopKMask(6), lambda m: slow_top(m, 6)),
        (TopKMask(fraction=0.1), lambda m: slow_top(m, round(0.1 * m.numel()))),
        (TopKMask(fraction=1e-6), lambda m: slow_top(m, 1)),
    ],
    ids=lambda v: type(v).__name__ if not callable(v) or hasattr(v, "cut") else "",
)
def test_equals_slow_oracle(mask, slow, shape):
    maps = random_map(*shape)
    masks = mask(maps)
    assert masks.shape == maps.shape
    for m, got in zip(maps, masks, strict=True):
        expected = torch.tensor(slow(m[0]), dtype=torch.float64)
        assert torch.allclose(got.flatten(), expected, atol=1e-12)


@pytest.mark.parametrize("mask", ALL, ids=NAMES)
def test_values_lie_between_0_and_1(mask):
    masks = mask(random_map(4, 1, 8, 8))
    assert ((masks >= 0) & (masks <= 1)).all()
    assert masks.amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("mask", [m for m in ALL if not isinstance(m, RandomPlace)])
def test_batch_is_one_by_one(mask):
    maps = random_map(4, 1, 6, 6)
    singles = torch.cat([mask(m[None]) for m in maps])
    assert torch.allclose(mask(maps), singles, atol=1e-14)


@pytest.mark.parametrize("mask", ALL, ids=NAMES)
def test_zero_map_gives_empty_mask_and_no_nan_gradient(mask):
    saliency = torch.zeros(2, 1, 5, 5, requires_grad=True)
    for norm in ("max", "std", "l2", "mean"):
        masks = mask(SaliencyToMap(normalise=norm)(saliency))
        assert (masks == 0).all()
        (gradient,) = torch.autograd.grad(masks.sum() + saliency.sum(), saliency)
        assert torch.equal(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("value", [1.0, 0.1, 1e-12])
@pytest.mark.parametrize("mask", [AdaptiveMask(), AdaptiveMask(units="std"), HardMask()])
def test_nothing_stands_out_of_a_constant_map(mask, value):
    maps = torch.full((2, 1, 7, 9), value, requires_grad=True)
    masks = mask(maps)
    assert (masks == 0).all()
    if mask.differentiable:
        (gradient,) = torch.autograd.grad(masks.sum(), maps)
        assert (gradient == 0).all()


def test_other_masks_of_a_constant_map():
    maps = torch.ones(1, 1, 10, 10)
    assert (SoftMask()(maps) > 0.99).all()
    assert TopKMask(7)(maps).sum() == 7
    box = BoxMask()(maps)[0, 0]
    # Uniform over 10 pixels: std 2.87, so half a side of 3.45 about 4.5: pixels 2 to 7.
    assert torch.equal(box.nonzero().amin(0), torch.tensor([2, 2]))
    assert torch.equal(box.nonzero().amax(0), torch.tensor([7, 7]))


def test_box_of_a_single_point_is_that_pixel():
    for place in itertools.product(range(5), range(7)):
        maps = torch.zeros(1, 1, 5, 7)
        maps[0, 0, place[0], place[1]] = 0.3
        assert BoxMask(0.1)(maps)[0, 0].nonzero().tolist() == [list(place)]


def test_box_is_never_empty():
    maps = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0]).view(1, 1, 5)
    assert BoxMask(0.1)(maps).flatten().tolist() == [0, 0, 1, 1, 0]


def test_top_k_takes_exactly_k_but_no_zeros():
    assert (TopKMask(1000)(random_map(3, 1, 40, 40)).sum((1, 2, 3)) == 1000).all()
    assert (TopKMask(1000)(random_map(3, 1, 5, 5)).sum((1, 2, 3)) == 25).all()
    sparse = torch.zeros(1, 1, 5, 5)
    sparse[0, 0, 0, :2] = 1
    assert torch.equal(TopKMask(10)(sparse), sparse)


def test_std_units_do_not_change_with_the_scale_of_the_map():
    maps = random_map(2, 1, 9, 9)
    mask = AdaptiveMask(1.0, 10.0, units="std")
    assert torch.allclose(mask(maps), mask(maps * 1000))
    assert not torch.allclose(AdaptiveMask(1.0)(maps), AdaptiveMask(1.0)(maps * 0.01))


@pytest.mark.parametrize("mask", DIFFERENTIABLE)
@pytest.mark.parametrize("shape", [(2, 1, 4, 3), (1, 1, 2, 3, 2)])
def test_gradient_of_soft_masks(mask, shape):
    maps = (random_map(*shape) * 0.3).requires_grad_()
    assert mask.differentiable
    assert torch.autograd.gradcheck(mask, maps)


@pytest.mark.parametrize("mask", STEPS)
def test_steps_have_no_gradient(mask):
    assert not mask.differentiable
    assert not mask(random_map(2, 1, 5, 5).requires_grad_()).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mask", [*DIFFERENTIABLE, *STEPS])
def test_half_precision_is_computed_in_float32(mask, dtype):
    maps = random_map(2, 1, 6, 6, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        masks = mask(maps)
    assert masks.dtype == torch.float32
    assert torch.equal(masks, mask(maps.float()))


def test_nan_maps_give_nan_soft_masks():
    maps = torch.full((1, 1, 3, 3), torch.nan)
    assert SoftMask()(maps).isnan().all()
    assert AdaptiveMask()(maps).isnan().all()


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: SoftMask(omega=0), "omega is 0"),
        (lambda: SoftMask(sigma=float("inf")), "sigma is inf"),
        (lambda: AdaptiveMask(units="pixels"), "units='pixels' is unknown"),
        (lambda: HardMask(above="median"), "above='median' is unknown"),
        (lambda: BoxMask(-1), "k is -1"),
        (lambda: TopKMask(0), "k is 0"),
        (lambda: TopKMask(1.5), "k is 1.5"),
        (lambda: TopKMask(fraction=1.5), "fraction is 1.5"),
    ],
)
def test_wrong_arguments(make, part):
    with pytest.raises(ValueError, match=part):
        make()


def test_several_channels_are_refused():
    with pytest.raises(ValueError, match="3 channels.*SaliencyToMap"):
        SoftMask()(torch.rand(1, 3, 4, 4))
