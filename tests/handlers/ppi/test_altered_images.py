"""The first convolution of altered images: the same values and gradients by another kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ppi_med.handlers.altered_images import fast_image_gradient


def _gradients(network: nn.Module, image: Tensor, fast: bool) -> list[Tensor]:
    image = image.clone().requires_grad_()
    with fast_image_gradient(image if fast else image.detach()):
        out = network(image)
    wanted = (image, *network.parameters())
    return [out.detach(), *torch.autograd.grad(out.square().sum(), wanted)]


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_stay(bias: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, dilation=1, bias=bias),
        nn.ReLU(),
        nn.Conv2d(4, 6, (3, 1), padding=(1, 0)),
        nn.Conv2d(6, 2, 1, padding="same"),
    ).double()
    image = torch.randn(5, 1, 9, 10, dtype=torch.float64)
    for got, expected in zip(
        _gradients(network, image, True), _gradients(network, image, False), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


def test_only_weights_that_are_trained_get_a_gradient() -> None:
    convolution = nn.Conv2d(1, 2, 3)
    convolution.weight.requires_grad_(False)
    image = torch.randn(1, 1, 5, 5, requires_grad=True)
    with fast_image_gradient(image):
        convolution(image).sum().backward()
    assert convolution.weight.grad is None
    assert convolution.bias is not None and convolution.bias.grad is not None
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_autocast_is_left_to_torch() -> None:
    image = torch.randn(1, 1, 5, 5, requires_grad=True)
    with fast_image_gradient(image), torch.autocast("cpu", torch.bfloat16):
        assert nn.Conv2d(1, 2, 3)(image).dtype is torch.bfloat16
