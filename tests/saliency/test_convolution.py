"""Trained convolutions pass relevance back by a function of their own: values and derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.saliency import WBP
from ppi_med.saliency.engine.convolution import _PassedBack, image_gradient, suits

# x, weight, stride, padding, dilation, transposed, output padding, groups
SETTINGS = {
    "1D": ((2, 3, 9), (4, 3, 3), [2], [1], [1], False, [0], 1),
    "2D": ((2, 6, 7, 8), (4, 6, 3, 3), [1, 2], [1, 0], [2, 1], False, [0, 0], 1),
    "2D, few channels": ((2, 1, 7, 8), (4, 1, 3, 3), [2, 2], [1, 1], [1, 1], False, [0, 0], 1),
    "2D, groups": ((2, 6, 6, 6), (6, 2, 3, 3), [1, 1], [1, 1], [1, 1], False, [0, 0], 3),
    "3D": ((1, 2, 4, 5, 6), (3, 2, 2, 2, 2), [1, 2, 1], [0, 1, 0], [1] * 3, False, [0] * 3, 1),
    "2D transposed": ((2, 3, 4, 5), (3, 4, 3, 3), [2, 2], [1, 1], [1, 1], True, [1, 1], 1),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_value_and_derivatives_are_autograds(name: str) -> None:
    shape, kernel, *rest = SETTINGS[name]
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(kernel, dtype=torch.float64, requires_grad=True)
    out = torch.ops.aten.convolution(x, weight, None, *rest)
    grad = torch.randn_like(out).requires_grad_()
    (expected,) = torch.autograd.grad(out, x, grad, create_graph=True)
    got = _PassedBack.apply(grad, weight, x.detach(), tuple(rest))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)
    outer = torch.randn_like(x)
    for a, b in zip(
        torch.autograd.grad(got, (grad, weight), outer),
        torch.autograd.grad(expected, (grad, weight), outer),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [((1, 1), (0, 0), (1, 1)), ((2, 1), (1, 2), (1, 2))]
)
def test_the_image_gradient_is_the_transpose(
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    x = torch.randn(9, 3, 10, 11, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    out = F.conv2d(x, weight, None, stride, padding, dilation)
    grad = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, x, grad)
    got = image_gradient(grad, weight, x.shape, stride, padding, dilation)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


def test_what_the_image_gradient_serves() -> None:
    image, weight = torch.zeros(1, 1, 4, 4), torch.zeros(2, 1, 3, 3)
    assert suits(image, weight, 1)
    assert not suits(image, weight.bfloat16(), 1)
    assert not suits(image, weight, 2)
    assert not suits(torch.zeros(1, 5, 4, 4), torch.zeros(2, 5, 3, 3), 1)
    assert not suits(image[0], weight, 1)


def _network(convolution: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    first = torch.randn(4, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    second = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)

    def network(image: Tensor) -> Tensor:
        hidden = F.relu(convolution(image, first))
        return convolution(hidden, second).mean((2, 3))

    network.weights = (first, second)  # type: ignore[attr-defined]
    return network


def test_gradients_through_a_map_are_those_of_autograds_convolution() -> None:
    """A convolution written as a matrix product of patches has no function of its own."""

    def by_patches(x: Tensor, weight: Tensor) -> Tensor:
        patches = F.unfold(x, 3)
        side = x.shape[-1] - 2
        return (weight.flatten(1) @ patches).view(len(x), -1, side, side)

    found = []
    for convolution in (F.conv2d, by_patches):
        torch.manual_seed(2)
        network = _network(convolution)
        image = torch.randn(3, 1, 8, 8, dtype=torch.float64)
        relevance = WBP()(network, image, 1, create_graph=True)
        grads = torch.autograd.grad(relevance.square().sum(), network.weights)  # type: ignore[attr-defined]
        found.append((relevance, *grads))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
