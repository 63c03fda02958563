from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import (
    BlurFill,
    ConstantFill,
    ExchangeFill,
    MeanFill,
    ZeroFill,
    gaussian_smooth,
    make_fill,
    remove,
)

SHAPES = [(3, 2, 5, 4), (2, 1, 3, 4, 5), (4, 1, 6)]


def random_image(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def random_mask(shape, seed=1):
    mask = torch.rand((shape[0], 1, *shape[2:]), generator=torch.Generator().manual_seed(seed))
    return mask.double()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["zero", "mean", "blur", "exchange", "constant"])
def test_removal_equals_point_by_point(name, shape):
    image, mask = random_image(shape), random_mask(shape)
    partner = torch.arange(shape[0]).roll(1)
    fill = make_fill(0.7 if name == "constant" else name)
    altered = remove(image, mask, fill(image, partner))
    assert altered.shape == image.shape
    blurred = gaussian_smooth(image, 8.0)
    for n in range(shape[0]):
        for c in range(shape[1]):
            flat = image[n, c].flatten().tolist()
            other = {
                "zero": [0.0] * len(flat),
                "constant": [0.7] * len(flat),
                "mean": [sum(flat) / len(flat)] * len(flat),
                "blur": blurred[n, c].flatten().tolist(),
                "exchange": image[int(partner[n]), c].flatten().tolist(),
            }[name]
            weights = mask[n, 0].flatten().tolist()
            expected = [x * (1 - m) + f * m for x, m, f in zip(flat, weights, other, strict=True)]
            assert altered[n, c].flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_zero_fill_is_the_printed_form():
    image, mask = random_image((2, 3, 4, 4)), random_mask((2, 3, 4, 4))
    assert torch.allclose(remove(image, mask), image - mask * image)
    assert torch.allclose(remove(image, mask, ZeroFill()(image)), image - mask * image)


def test_empty_mask_changes_nothing_and_full_mask_leaves_the_fill():
    image = random_image((3, 1, 4, 4))
    partner = torch.tensor([1, 2, 0])
    fill = ExchangeFill()(image, partner)
    assert torch.equal(remove(image, torch.zeros(3, 1, 4, 4), fill), image)
    assert torch.equal(remove(image, torch.ones(3, 1, 4, 4), fill), image[partner])


def test_one_mask_for_all_and_for_all_slices():
    image = random_image((2, 1, 3, 4, 5))
    mask = torch.rand(1, 1, 1, 4, 5, dtype=torch.float64)
    assert torch.equal(remove(image, mask), image * (1 - mask.expand_as(image)))


def test_gradient_in_the_mask_and_the_image():
    image = random_image((2, 1, 3, 3)).requires_grad_()
    mask = random_mask((2, 1, 3, 3)).requires_grad_()
    partner = torch.tensor([1, 0])
    for fill in (MeanFill(), BlurFill(1.0), ExchangeFill(), ConstantFill(0.3)):
        assert torch.autograd.gradcheck(
            lambda x, m, f=fill: remove(x, m, f(x, partner)), (image, mask)
        )


def test_exchange_alone():
    image = torch.arange(6.0).view(1, 1, 1, 6)
    alone = torch.tensor([0])
    assert ExchangeFill()(image, alone).flatten().tolist() == [3, 4, 5, 0, 1, 2]
    assert ExchangeFill(alone="mean")(image, alone).flatten().tolist() == [2.5] * 6


def test_constant_per_channel():
    image = random_image((2, 2, 3, 3))
    fill = ConstantFill([1.0, -1.0])(image)
    altered = remove(image, torch.ones(2, 1, 3, 3), fill)
    assert (altered[:, 0] == 1).all() and (altered[:, 1] == -1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["zero", "mean", "blur", "exchange"])
def test_result_has_the_dtype_of_the_image(name, dtype):
    image = random_image((2, 1, 4, 4), dtype=dtype)
    altered = remove(image, random_mask((2, 1, 4, 4)), make_fill(name)(image, torch.tensor([1, 0])))
    assert altered.dtype == dtype


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda x: remove(x, torch.ones(2, 1, 3)), "doesn't broadcast"),
        (lambda x: remove(x, torch.ones(2, 1, 3, 5)), "doesn't broadcast"),
        (lambda x: remove(x, torch.ones(2, 3, 4)), "doesn't broadcast"),
        (lambda x: ExchangeFill()(x), "one partner for each of 2 samples, got None"),
        (lambda x: ExchangeFill()(x, torch.tensor([0])), "one partner for each of 2"),
        (lambda x: ConstantFill([1.0, 2.0])(x), "2 values for 1 channels"),
        (lambda x: make_fill("noise"), "fill='noise' is unknown: use one of zero, mean"),
        (lambda x: ExchangeFill(alone="zero"), "alone='zero' is unknown"),
        (lambda x: BlurFill(-2.0), "sigma is -2"),
    ],
)
def test_wrong_arguments(call, part):
    with pytest.raises(ValueError, match=part):
        call(torch.rand(2, 1, 3, 4))


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match="uint8"):
        remove(torch.ones(1, 1, 2, 2, dtype=torch.uint8), torch.ones(1, 1, 2, 2))
