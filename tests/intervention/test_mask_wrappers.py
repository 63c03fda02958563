from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import (
    AdaptiveMask,
    BoxMask,
    ComplementMask,
    RandomPlace,
    SoftMask,
    TopKMask,
    move_at_random,
)
from ppi_med.intervention.randomness import RandomState, random_cycle, shift_each


@pytest.mark.parametrize("shape", [(4, 1, 6), (4, 2, 5, 6), (3, 1, 4, 5, 6)])
def test_shift_is_torch_roll_of_one_sample_at_a_time(shape):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator)
    axes = range(2, len(shape))
    shifts = {a: torch.randint(-9, 9, (shape[0],), generator=generator) for a in axes}
    moved = shift_each(image, shifts)
    for n in range(shape[0]):
        by = [int(shifts[a][n]) for a in axes]
        assert torch.equal(moved[n], image[n].roll(by, [a - 1 for a in axes]))


@pytest.mark.parametrize("inner", [SoftMask(), AdaptiveMask(1.0), BoxMask(), TopKMask(7)])
@pytest.mark.parametrize("shape", [(6, 1, 12, 9), (4, 1, 3, 6, 7)])
def test_area_and_shape_are_exactly_those_of_the_mask(inner, shape):
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(1)) ** 6
    fixed, moved = inner(maps), RandomPlace(inner, seed=3)(maps)
    spatial = tuple(range(1, len(shape) - 1))
    for a, b in zip(fixed, moved, strict=True):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
        transform = torch.fft.fftn(a.double(), dim=spatial).abs()
        assert torch.allclose(transform, torch.fft.fftn(b.double(), dim=spatial).abs(), atol=1e-9)
    assert not torch.equal(fixed, moved)


def test_every_place_is_reached():
    mask = torch.zeros(2000, 1, 3, 4)
    mask[:, 0, 0, 0] = 1
    share = move_at_random(mask, torch.Generator().manual_seed(0)).mean(0)
    assert (share - 1 / 12).abs().max() < 0.03


def test_axes_keep_the_others_in_place():
    mask = torch.zeros(50, 1, 4, 5, 6)
    mask[:, 0, 2, 1, 1] = 1
    moved = move_at_random(mask, torch.Generator().manual_seed(0), axes=(3, 4))
    assert moved.sum((0, 1, 3, 4)).tolist() == [0, 0, 50, 0]


def test_gradient_passes():
    maps = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)

    def moved(m):
        return RandomPlace(SoftMask(omega=3.0), seed=1)(m)

    assert RandomPlace(SoftMask()).differentiable
    assert not RandomPlace(BoxMask()).differentiable
    assert torch.autograd.gradcheck(moved, maps)


def test_resume_is_bitwise():
    maps = torch.rand(3, 1, 8, 8)
    first, second = RandomPlace(SoftMask(), seed=1), RandomPlace(SoftMask(), seed=2)
    first(maps)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(maps), second(maps))
    assert not torch.equal(first(maps), first(maps))


def test_wrong_axes():
    with pytest.raises(ValueError, match=r"axes are \[1\]"):
        move_at_random(torch.rand(1, 1, 3, 3), torch.Generator(), axes=(1,))


@pytest.mark.parametrize("size", [2, 3, 8, 33])
def test_cycle_is_a_permutation_without_fixed_points(size):
    generator = torch.Generator().manual_seed(size)
    for _ in range(50):
        partner = random_cycle(size, generator)
        assert sorted(partner.tolist()) == list(range(size))
        assert (partner != torch.arange(size)).all()


def test_cycles_of_three_are_equally_likely():
    generator = torch.Generator().manual_seed(0)
    ones = sum(random_cycle(3, generator).tolist() == [1, 2, 0] for _ in range(2000))
    assert abs(ones - 1000) < 120


def test_reseed_starts_anew():
    state = RandomState(5)
    first = torch.rand(3, generator=state.generator)
    state.reseed(5)
    assert torch.equal(first, torch.rand(3, generator=state.generator))


@pytest.mark.parametrize("inner", [SoftMask(), TopKMask(fraction=0.3)], ids=["soft", "topk"])
def test_a_complement_is_all_that_is_left(inner):
    maps = torch.rand(3, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    maps[1] = 0
    rest = ComplementMask(inner)(maps)
    assert torch.equal(rest[::2], 1 - inner(maps)[::2])
    assert not rest[1].any()  # a map that shows nothing must not have everything taken away
    assert ComplementMask(inner).differentiable is inner.differentiable


def test_a_complement_keeps_the_state_of_its_mask():
    maps = torch.rand(3, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    one = ComplementMask(RandomPlace(TopKMask(k=5), seed=1))
    other = ComplementMask(RandomPlace(TopKMask(k=5), seed=2))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(maps), other(maps))
