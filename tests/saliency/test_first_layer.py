"""Training through a recorded forward does not pay for a gradient of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ppi_med.saliency import WBP

FIRST: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (2, 3, 5)),
    "linear without bias": (lambda: nn.Linear(5, 4, bias=False), (2, 3, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, padding=1), (2, 2, 7)),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3, stride=2, dilation=2, groups=2), (2, 2, 9, 8)),
    "conv2d of unequal strides": (lambda: nn.Conv2d(2, 4, (3, 1), (2, 1), (1, 0)), (2, 2, 9, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3, stride=(1, 2, 2)), (2, 2, 5, 6, 7)),
    "conv2d to the same size": (lambda: nn.Conv2d(2, 4, 3, padding="same"), (2, 2, 5, 6)),
    "conv transposed": (lambda: nn.ConvTranspose2d(2, 4, 3), (2, 2, 5, 6)),
    "batch norm": (lambda: nn.BatchNorm2d(2), (2, 2, 5, 6)),
}


def total(output: Tensor) -> Tensor:
    return output.flatten(1) @ torch.linspace(0.5, 2, output[0].numel()).to(output.dtype)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", FIRST)
def test_the_map_is_that_of_later_layers(name: str, frozen: bool) -> None:
    """The same layer as the first, and behind a trained factor of one, where nothing is saved."""
    torch.manual_seed(0)
    make, shape = FIRST[name]
    layer = make().double().requires_grad_(not frozen)
    image = torch.randn(shape).double()
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    recording = WBP().record(layer, image)
    later = WBP().record(lambda x: layer(x * one), image)
    assert torch.equal(recording.output, later.output)
    assert torch.allclose(recording.saliency(total), later.saliency(total), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", FIRST)
def test_gradients_through_the_map(name: str) -> None:
    torch.manual_seed(0)
    make, shape = FIRST[name]
    layer = make().double()
    image = torch.randn(shape).double()
    one = torch.ones((), dtype=torch.float64, requires_grad=True)

    def gradients(network: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        recording = WBP().record(network, image)
        s = recording.saliency(total, create_graph=True)
        loss = s.square().sum() + recording.output.square().sum()
        return torch.autograd.grad(loss, list(layer.parameters()))

    for a, b in zip(gradients(layer), gradients(lambda x: layer(x * one)), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", FIRST)
def test_the_image_gets_no_gradient(name: str) -> None:
    torch.manual_seed(0)
    make, shape = FIRST[name]
    layer = make()
    recording = WBP().record(layer, torch.randn(shape))
    recording.output.square().sum().backward()
    assert recording.image.grad is None
    assert all(p.grad is not None for p in layer.parameters())


def test_no_transposed_convolution_is_run_for_the_image() -> None:
    """Profile a backward of the output: the first convolution gives no gradient of its input."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten())
    image = torch.randn(2, 1, 8, 8)
    asked: list[tuple[bool, ...]] = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.ops.aten.convolution_backward.default:
                asked.append(tuple(args[-1]))
            return func(*args, **(kwargs or {}))

    recording = WBP().record(network, image)
    with Watching():
        recording.output.sum().backward()
    assert asked == [(True, True, True), (False, True, True)]


class Prepared(nn.Module):
    """Steps before the first trained layer: normalising in place, channels, slices, chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.3))
        self.frozen = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2).flatten(0, 1)
        x.sub_(self.mean).div_(2)
        x = self.frozen(torch.cat([x, x * 2, x.abs()], 1))
        return torch.cat([self.conv(part) for part in x.split(2)]).flatten(1)


def test_steps_before_the_first_layer() -> None:
    torch.manual_seed(0)
    network = Prepared().double()
    image = torch.randn(2, 1, 3, 5, 6).double()
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    target = lambda output: total(output).view(2, 3).sum(1)  # noqa: E731
    recording = WBP().record(network, image)
    s = recording.saliency(target)
    assert torch.allclose(s, WBP()(lambda x: network(x * one), image, target), rtol=1e-12)
    recording.output.sum().backward()
    assert recording.image.grad is None and network.conv.weight.grad is not None


def test_a_trained_step_beside_the_first_layer() -> None:
    """The image on a second way, through a trained factor: relevance takes both."""
    torch.manual_seed(0)
    conv, factor = nn.Conv1d(1, 1, 3, padding=1).double(), nn.Parameter(torch.tensor(2.0).double())
    image = torch.randn(2, 1, 6).double()
    recording = WBP().record(lambda x: conv(x) + factor * x, image)
    expected = WBP()(conv, image, total) + 2 * WBP()(lambda x: x, image, total)
    assert torch.allclose(recording.saliency(total), expected, rtol=1e-12)
    recording.output.sum().backward()
    assert recording.image.grad is None
    assert torch.allclose(factor.grad, image.sum())
