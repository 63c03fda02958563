"""The recorded forward is the plain forward: the same values, the same gradients afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.saliency import WBP, primary_logits
from tests.saliency.named_networks import Named, named
from tests.saliency.named_networks import build as build_named
from tests.saliency.small_networks import NETWORKS, Mixed, Plain, Small, build


def gradients_of(network: nn.Module, output: Any) -> list[Tensor]:
    logits = primary_logits(output)
    loss = F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1])
    if hasattr(output, "aux_logits") and output.aux_logits is not None:
        loss = loss + output.aux_logits.square().mean()
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return [g for g in found if g is not None]


def assert_same_training(network: nn.Module, image: Tensor, *, with_map: bool) -> None:
    """Compare a plain step with a recorded one: output, parameter gradients, buffers."""
    buffers = {name: b.clone() for name, b in network.named_buffers()}
    torch.manual_seed(1)
    plain = network(image.clone())
    expected = gradients_of(network, plain)
    moved = {name: b.clone() for name, b in network.named_buffers()}
    for name, b in network.named_buffers():
        b.copy_(buffers[name])
    torch.manual_seed(1)
    recording = WBP().record(network, image)
    assert torch.equal(primary_logits(recording.output), primary_logits(plain))
    if with_map:
        recording.saliency(0)
    got = gradients_of(network, recording.output)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a - b).abs().max() <= 1e-10 * b.abs().max().clamp(min=1e-12)
    for name, b in network.named_buffers():
        assert torch.equal(b, moved[name]), name


@pytest.mark.parametrize("with_map", [False, True])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.name}-{n.training}")
def test_small_networks(network: Small, with_map: bool) -> None:
    module, image = build(network)
    assert_same_training(module, image, with_map=with_map)


@named("vgg11", "vit_b_16")
@pytest.mark.parametrize("training", [False, True])
def test_named_networks(network: Named, training: bool) -> None:
    module, image = build_named(network, training=training)
    assert_same_training(module, image, with_map=True)


def test_several_maps_of_one_recording() -> None:
    network, image = build(NETWORKS[4])
    recording = WBP().record(network, image)
    first = recording.saliency(0)
    second = recording.saliency(1)
    assert torch.equal(recording.saliency(0), first)
    assert not torch.equal(first, second)
    recording.saliency(1, retain_graph=False)
    with pytest.raises(RuntimeError, match="second time"):
        recording.saliency(1)


def test_a_map_after_backward_of_the_loss() -> None:
    network, image = build(NETWORKS[0])
    recording = WBP().record(network, image)
    recording.output.sum().backward(retain_graph=True)
    assert torch.equal(recording.saliency(0), WBP().record(network, image).saliency(0))


def test_the_image_of_a_recording_is_a_leaf_of_its_own() -> None:
    network, image = build(NETWORKS[0])
    recording = WBP().record(network, image)
    assert recording.image.is_leaf and recording.image is not image
    assert torch.equal(recording.image.detach(), image)


# One way to write the same network each; all must have the same map.


def functional(m: Any, x: Tensor) -> Tensor:
    x = F.relu(F.conv2d(x, m.body[0].weight, m.body[0].bias, padding=1))
    return F.linear(F.max_pool2d(x, 2).flatten(1), m.head.weight, m.head.bias)


def methods(m: Any, x: Tensor) -> Tensor:
    x = torch.conv2d(x, m.body[0].weight, m.body[0].bias, padding=1).relu()
    return torch.max_pool2d(x, 2).view(len(x), -1) @ m.head.weight.T + m.head.bias


def in_place(m: Any, x: Tensor) -> Tensor:
    x = m.body[0](x)
    x.relu_()
    x = F.max_pool2d(x, kernel_size=2).flatten(1)
    out = x.new_zeros(len(x), 2)
    out += x @ m.head.weight.T
    out.add_(m.head.bias)
    return out


def with_keywords(m: Any, x: Tensor) -> Tensor:
    x = torch.clamp_min(input=m.body[0](x), min=0)
    x = torch.flatten(F.max_pool2d(input=x, kernel_size=2), start_dim=1)
    y = torch.matmul(input=x, other=m.head.weight.T)
    return torch.add(input=y, other=m.head.bias)


def in_pieces(m: Any, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 2, dtype=x.dtype)
    for i, image in enumerate(x):
        y = F.relu(m.body[0](image[None]))
        out[i] = m.head(F.max_pool2d(y, 2).flatten(1))[0]
    return out


def into_a_buffer(m: Any, x: Tensor) -> Tensor:
    buffer = torch.empty(len(x), 3, 8, 8, dtype=x.dtype)
    buffer[:, 0].zero_()
    y = m.body[0](x)
    for channel in range(3):
        buffer[:, channel].copy_(y[:, channel])
    return m.head(F.max_pool2d(F.relu(buffer), 2).flatten(1))


def scaled(m: Any, x: Tensor) -> Tensor:
    """Operators with numbers: each undone by the next."""
    y = m.body[0](x)
    y = 2 - (1 - y) - 1
    y = (y * 4 / 2).div(2)
    y = y.mul(other=3).div(other=3)
    y = torch.sub(y, y, alpha=0.5) * 2
    y /= 2
    y *= 2
    y -= 1
    y = torch.neg(y + 1)
    y = -y
    return m.head(F.max_pool2d(torch.where(y > 0, y, torch.zeros_like(y)), 2).flatten(1))


def out_of_order(m: Any, x: Tensor) -> Tensor:
    y = torch.stack(torch.unbind(m.body[0](x), 1), 1)
    y = torch.cat(list(y.split(1, dim=1)), dim=1).permute(0, 2, 3, 1).contiguous()
    y = torch.maximum(y, torch.zeros(())).movedim(-1, 1)
    y = y.reshape(len(x), 3, 4, 2, 4, 2).amax((3, 5))
    return torch.einsum("ni,oi->no", y.flatten(1), m.head.weight) + m.head.bias


def by_addmm(m: Any, x: Tensor) -> Tensor:
    y = F.max_pool2d(F.relu(m.body[0](x)), 2).flatten(1)
    return torch.addmm(m.head.bias, y, m.head.weight.T)


def to_and_fro(m: Any, x: Tensor) -> Tensor:
    y = m.body[0](x).to(torch.float64).type_as(x).to("cpu").double()
    y = y.relu().unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).max(dim=4).values
    return m.head(y.flatten(1))


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.max_pool2d(self.body(x), 2).flatten(1))


@pytest.mark.parametrize(
    "spelling",
    [
        functional,
        methods,
        in_place,
        with_keywords,
        in_pieces,
        into_a_buffer,
        scaled,
        out_of_order,
        by_addmm,
        to_and_fro,
    ],
)
def test_spellings(spelling: Callable[[Any, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    module = Convolution().double()
    image = torch.randn(3, 1, 8, 8).double()
    target = torch.tensor([0, 1, 1])
    recording = WBP().record(lambda x: spelling(module, x), image)
    assert torch.allclose(recording.output, module(image), rtol=1e-12, atol=1e-12)
    expected = WBP()(module, image, target)
    assert torch.allclose(recording.saliency(target), expected, rtol=1e-10, atol=1e-12)


def test_modules_used_twice() -> None:
    torch.manual_seed(0)
    conv, act = nn.Conv2d(1, 1, 3, padding=1).double(), nn.SiLU()
    image = torch.randn(2, 1, 5, 5).double()

    def twice(x: Tensor) -> Tensor:
        return act(conv(act(conv(x)))).flatten(1)

    again, act_again = nn.Conv2d(1, 1, 3, padding=1).double(), nn.SiLU()
    again.load_state_dict(conv.state_dict())

    def copied(x: Tensor) -> Tensor:
        return act_again(again(act(conv(x)))).flatten(1)

    assert torch.equal(WBP()(twice, image, 3), WBP()(copied, image, 3))


def test_functional_call() -> None:
    network, image = build(NETWORKS[4])
    state = {name: v.detach() * 1.5 for name, v in network.named_parameters()}

    def called(x: Tensor) -> Tensor:
        return torch.func.functional_call(network, state, (x,))  # type: ignore[no-any-return]

    changed = Mixed(2).double().train(network.training)
    changed.load_state_dict({**network.state_dict(), **state})
    torch.manual_seed(0)
    got = WBP()(called, image, 1)
    torch.manual_seed(0)
    assert torch.equal(got, WBP()(changed, image, 1))


def test_parametrised_weights() -> None:
    """Weights that are computed from parameters on the way are constants, not signal."""
    torch.manual_seed(0)
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)).double()
    other = nn.utils.parametrizations.spectral_norm(nn.Linear(18, 3)).double().eval()
    network = nn.Sequential(conv, nn.SiLU(), nn.Flatten(), other)
    image = torch.randn(2, 1, 5, 5).double()
    plain_conv, plain_other = nn.Conv2d(1, 2, 3).double(), nn.Linear(18, 3).double()
    plain = nn.Sequential(plain_conv, nn.SiLU(), nn.Flatten(), plain_other)
    with torch.no_grad():
        for to, of in ((plain_conv, conv), (plain_other, other)):
            to.weight.copy_(of.weight)
            to.bias.copy_(of.bias)
    assert torch.allclose(WBP()(network, image, 1), WBP()(plain, image, 1), atol=1e-14)


def test_further_arguments_of_the_network() -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.body = nn.Embedding(4, 3), Plain()

        def forward(self, x: Tensor, which: Tensor, *, factor: float = 1.0) -> Tensor:
            return factor * self.body(x) + self.embed(which)

    torch.manual_seed(0)
    network = Conditioned().eval()
    image = torch.randn(3, 1, 8, 8)
    with torch.inference_mode():
        recording = WBP().record(network, image, torch.tensor([0, 1, 3]), factor=2.0)
    assert torch.allclose(recording.saliency(1), 2 * WBP()(network.body, image, 1))
    recording.output.sum().backward()
    assert network.embed.weight.grad is not None
