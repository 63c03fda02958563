"""Half precision and autocast: forward and gradients are the plain ones, maps are near."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import LRP, WBP
from ppi_med.saliency.lrp import AlphaBeta, Epsilon, LRPRule
from tests.saliency.small_networks import Mixed, Plain

NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "plain": (Plain, (4, 1, 8, 8)),
    "mixed": (lambda: Mixed(2, dropout=0.0), (4, 1, 6, 6)),
    "mixed 3D": (lambda: Mixed(3, dropout=0.0), (4, 1, 4, 4, 4)),
    "multi-view": (lambda: MultiViewClassifier(tau=1.0), (2, 1, 4, 16, 16)),
}
PRECISION = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}

half = pytest.mark.parametrize("dtype", PRECISION, ids=lambda d: str(d).split(".")[1])
networks = pytest.mark.parametrize("name", NETWORKS)


def prepared(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network, image = make(), torch.randn(shape)
    with torch.no_grad():
        network.train()(image)
    return network, image, torch.arange(len(image)) % 2


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    output = output.float()
    if output.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(output[:, 0], target.float())
    return F.cross_entropy(output, target)


def gradients(network: nn.Module, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def distance(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


def plain_gradient(network: nn.Module, image: Tensor) -> Tensor:
    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf).float().sum(), leaf)
    return gradient * image


@half
@networks
def test_autocast_leaves_the_forward_and_its_gradients(name: str, dtype: torch.dtype) -> None:
    network, image, target = prepared(name)
    buffers = {k: v.clone() for k, v in network.named_buffers()}
    with torch.autocast("cpu", dtype):
        plain = network(image.clone())
    expected = gradients(network, loss_of(plain, target))
    for k, v in network.named_buffers():
        v.copy_(buffers[k])
    with torch.autocast("cpu", dtype):
        recording = WBP().record(network, image)
        recording.saliency(target)
    assert recording.output.dtype == plain.dtype
    assert torch.equal(recording.output, plain)
    assert distance(gradients(network, loss_of(recording.output, target)), expected) <= 1e-6


@half
@networks
@pytest.mark.parametrize("inside", [True, False])
def test_maps_under_autocast(name: str, dtype: torch.dtype, inside: bool) -> None:
    """Of the image's dtype, and near the map in single precision.

    As near as a plain gradient is: where another place wins a max pool, both jump.
    """
    network, image, target = prepared(name)
    network.eval()
    expected = WBP()(network, image, target)
    with torch.autocast("cpu", dtype):
        recording = WBP().record(network, image)
        if inside:
            s = recording.saliency(target)
    if not inside:
        s = recording.saliency(target)
    exact = plain_gradient(network, image)
    with torch.autocast("cpu", dtype):
        jump = distance(plain_gradient(network, image), exact)
    assert s.dtype == torch.float32
    assert distance(s, expected) <= max(40 * PRECISION[dtype], 1.5 * jump)


@half
@networks
def test_gradients_through_the_map_under_autocast(name: str, dtype: torch.dtype) -> None:
    network, image, target = prepared(name)

    def found(enabled: bool) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=enabled):
            recording = WBP().record(network, image)
            s = recording.saliency(target, create_graph=True)
        loss = loss_of(recording.output, target) + s.float().square().sum(1).mean()
        return gradients(network, loss)

    exact = found(False)
    assert distance(found(True), exact) <= 60 * PRECISION[dtype]


@pytest.mark.parametrize("create_graph", [False, True])
def test_small_weights_of_pixels_survive_float16(create_graph: bool) -> None:
    """A global mean leaves each pixel a weight that float16 holds only in a few bits."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 2, 1)
    image = torch.rand(1, 1, 512, 512)

    def network(x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(conv(x), 1).flatten(1)

    expected = WBP()(network, image, 1)
    with torch.autocast("cpu", torch.float16):
        recording = WBP().record(network, image)
    s = recording.saliency(1, create_graph=create_graph)
    assert distance(s, expected) <= 4 * PRECISION[torch.float16]


def test_large_weights_of_pixels_survive_float16() -> None:
    """Where the weights passed back larger would overflow, they are passed back as they are."""
    image = torch.full((1, 1, 4), 2.0**-10)
    with torch.autocast("cpu", torch.float16):
        recording = WBP().record(lambda x: x.half() * 30000, image)
        s = recording.saliency(lambda output: output.flatten(1).float().sum(1))
    assert torch.allclose(s, image * 30000, rtol=1e-3)


def test_a_scaled_loss_gives_scaled_gradients() -> None:
    """What a GradScaler does: the map is not scaled, the loss on it is."""
    network, image, target = prepared("mixed")

    def found(scale: float) -> Tensor:
        with torch.autocast("cpu", torch.float16):
            recording = WBP().record(network, image)
            s = recording.saliency(target, create_graph=True)
        loss = loss_of(recording.output, target) + s.float().square().mean()
        return gradients(network, loss * scale) / scale

    assert distance(found(1024.0), found(1.0)) <= 0.02


@half
def test_a_network_of_half_precision(dtype: torch.dtype) -> None:
    network, image, target = prepared("mixed")
    expected = WBP()(network.eval(), image, target)
    s = WBP()(network.to(dtype), image.to(dtype), target)
    assert s.dtype == dtype
    assert distance(s, expected) <= 60 * PRECISION[dtype]


def test_float32_is_near_float64() -> None:
    for name in NETWORKS:
        network, image, target = prepared(name)
        single = WBP()(network.eval(), image, target)
        assert distance(single, WBP()(network.double(), image.double(), target)) <= 1e-5


@half
@pytest.mark.parametrize("rule", [Epsilon(), AlphaBeta()], ids=["epsilon", "alpha beta"])
@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "network"])
def test_lrp_of_a_channel_that_is_always_0(rule: LRPRule, dtype: torch.dtype, whole: bool) -> None:
    """What is shared there is 0/0, and the stabilisers are 0 in float16."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 2)
    )
    nn.init.constant_(network[0].bias, 0.5)
    nn.init.constant_(network[0].bias[:2], -100.0)
    image = torch.randn(2, 1, 8, 8)
    method = LRP(rule)
    expected = method(network, image, 1)
    if whole:
        s = method(network.to(dtype), image.to(dtype), 1)
    else:
        with torch.autocast("cpu", dtype):
            s = method(network, image, 1)
    assert s.dtype == (dtype if whole else torch.float32)
    assert distance(s, expected) <= 60 * PRECISION[dtype]
