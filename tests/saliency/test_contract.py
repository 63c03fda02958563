"""What every method promises on every network: nothing left behind, and batch = one by one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency import SaliencyMethod
from tests.saliency.methods import METHODS, NEED_CONVOLUTION
from tests.saliency.small_networks import NETWORKS, Plain, Small, build

methods = pytest.mark.parametrize("method", [m() for m in METHODS.values()], ids=list(METHODS))


def over(networks: list[Small]) -> Any:
    return pytest.mark.parametrize(
        "network", networks, ids=lambda n: f"{n.name}-{'training' if n.training else 'evaluation'}"
    )


networks = over(NETWORKS)
# Batch statistics and dropout mix the samples of a batch.
in_evaluation = over([n for n in NETWORKS if not n.training])


@pytest.fixture(autouse=True)
def _supported(request: pytest.FixtureRequest) -> None:
    """Leave out networks without a convolution for methods that explain one."""
    test, case = request.node.originalname, request.node.callspec.id
    if any(name in case.split("-") for name in NEED_CONVOLUTION) and (
        "counting" in case or test == "test_logits_that_do_not_depend_on_the_image"
    ):
        pytest.skip("the network has no convolution")


class StopError(Exception):
    pass


class Raising(nn.Module):
    """Runs the network and then raises."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        self.inner(x)
        raise StopError


@contextmanager
def nothing_left_behind(module: nn.Module, image: Tensor) -> Iterator[None]:
    """Check what a map must leave alone: values, identities, versions, modes, hooks, attributes."""
    tensors = dict(module.state_dict(keep_vars=True))
    identities = {name: id(tensor) for name, tensor in tensors.items()}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    attributes = {name: set(vars(tensor)) for name, tensor in tensors.items()}
    gradients = {name: torch.randn_like(p) for name, p in module.named_parameters()}
    for name, parameter in module.named_parameters():
        parameter.grad = gradients[name].clone()
    modes = [m.training for m in module.modules()]
    hooks = [_hooks(m) for m in module.modules()]
    random, grad = torch.random.get_rng_state(), torch.is_grad_enabled()
    picture, flag, marks = image.detach().clone(), image.requires_grad, set(vars(image))

    yield

    after = dict(module.state_dict(keep_vars=True))
    assert {name: id(tensor) for name, tensor in after.items()} == identities
    for name, tensor in after.items():
        assert torch.equal(tensor.detach(), values[name]), name
        assert set(vars(tensor)) == attributes[name], name
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.equal(parameter.grad, gradients[name]), name
        parameter.grad = None
    assert [m.training for m in module.modules()] == modes
    assert [_hooks(m) for m in module.modules()] == hooks
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.is_grad_enabled() == grad
    assert torch.equal(image.detach(), picture)
    assert (image.requires_grad, image.grad, set(vars(image))) == (flag, None, marks)
    assert not torch.overrides._get_current_function_mode_stack()


def _hooks(module: nn.Module) -> list[int]:
    return [len(value) for name, value in vars(module).items() if name.endswith("_hooks")]


@methods
@networks
def test_nothing_is_left_behind(method: SaliencyMethod, network: Small) -> None:
    module, image = build(network)
    with nothing_left_behind(module, image):
        s = method(module, image, 1)
    assert s.shape == image.shape and s.dtype == image.dtype
    assert not s.requires_grad
    assert s.isfinite().all() and s.abs().max() > 0


@methods
@networks
def test_nothing_is_left_behind_with_a_graph(method: SaliencyMethod, network: Small) -> None:
    module, image = build(network)
    with nothing_left_behind(module, image):
        s = method(module, image, 1, create_graph=True)
    assert s.shape == image.shape


@methods
@networks
@pytest.mark.parametrize("target", [7, -1, torch.tensor([0, 1]), torch.tensor([0.5, 1, 2])])
def test_nothing_is_left_behind_by_a_bad_target(
    method: SaliencyMethod, network: Small, target: Any
) -> None:
    module, image = build(network)
    with nothing_left_behind(module, image), pytest.raises((ValueError, IndexError)):
        method(module, image, target)


@methods
@networks
def test_nothing_is_left_behind_by_an_exception(method: SaliencyMethod, network: Small) -> None:
    module, image = build(network)
    raising = Raising(module).train(network.training)
    with nothing_left_behind(raising, image), pytest.raises(StopError):
        method(raising, image, 1)


@methods
@networks
def test_nothing_is_left_behind_by_a_failing_target(method: SaliencyMethod, network: Small) -> None:
    module, image = build(network)

    def target(_: Tensor) -> Tensor:
        raise StopError

    with nothing_left_behind(module, image), pytest.raises(StopError):
        method(module, image, target)


@methods
@networks
def test_a_network_with_a_past_is_not_disturbed(method: SaliencyMethod, network: Small) -> None:
    """A graph made before the map is still good for a backward after it."""
    module, image = build(network)
    leaf = image.clone().requires_grad_()
    output = module(leaf * 1)
    with torch.no_grad():
        method(module, image, 1)
    output.sum().backward()
    assert leaf.grad is not None


@methods
@networks
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_does_not_matter(
    method: SaliencyMethod, network: Small, context: Any
) -> None:
    module, image = build(network)
    torch.manual_seed(1)
    expected = method(module, image, torch.tensor([1, 0, 2]))
    torch.manual_seed(1)
    with context():
        inside = image.clone()  # under inference_mode an inference tensor
        got = method(module, inside, torch.tensor([1, 0, 2]))
        assert torch.is_inference_mode_enabled() == (context is torch.inference_mode)
    assert torch.equal(got, expected)


@methods
@networks
def test_the_same_seed_gives_the_same_map(method: SaliencyMethod, network: Small) -> None:
    module, image = build(network)
    assert torch.equal(method(module, image, 1), method(module, image, 1))


@methods
@in_evaluation
def test_batch_is_one_by_one(method: SaliencyMethod, network: Small) -> None:
    module, _ = build(network)
    image = torch.randn(8, *network.shape[1:]).double()
    target = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1])

    def single(i: int) -> Tensor:
        torch.manual_seed(1)
        return method(module, image[i : i + 1], int(target[i]))

    torch.manual_seed(1)
    batch = method(module, image, target)
    expected = torch.cat([single(i) for i in range(8)])
    assert (batch - expected).abs().max() <= 1e-12 * expected.abs().max()


@methods
def test_frozen_parameters_do_not_matter(method: SaliencyMethod) -> None:
    module, image = build(NETWORKS[0])
    expected = method(module, image, 1)
    module.requires_grad_(False)
    # The transpose of a trained convolution is another kernel.
    torch.testing.assert_close(method(module, image, 1), expected, rtol=1e-12, atol=1e-15)


@methods
def test_a_copy_of_the_network_afterwards(method: SaliencyMethod) -> None:
    module, image = build(NETWORKS[0])
    expected = method(module, image, 1)
    assert torch.equal(method(copy.deepcopy(module), image, 1), expected)


@methods
def test_image_with_a_gradient_of_its_own(method: SaliencyMethod) -> None:
    module, image = build(NETWORKS[0])
    expected = method(module, image, 1)
    image.requires_grad_()
    with nothing_left_behind(module, image):
        assert torch.equal(method(module, image, 1), expected)


@methods
def test_metatensor(method: SaliencyMethod) -> None:
    from monai.data import MetaTensor

    module, image = build(NETWORKS[0])
    tracked = MetaTensor(image.clone(), meta={"filename": "a"})
    s = method(module, tracked, 1)
    assert type(s) is torch.Tensor
    assert torch.equal(s, method(module, image, 1))
    assert tracked.meta["filename"] == "a" and not tracked.requires_grad


@methods
def test_network_given_as_a_bound_method(method: SaliencyMethod) -> None:
    module, image = build(NETWORKS[1])
    with nothing_left_behind(module, image):
        assert torch.equal(method(module.forward, image, 1), method(module, image, 1))


@methods
def test_logits_that_do_not_depend_on_the_image(method: SaliencyMethod) -> None:
    bias = nn.Parameter(torch.zeros(2))
    assert method(lambda x: bias.expand(len(x), 2), torch.ones(3, 1, 4), 1).abs().sum() == 0
    assert method(lambda x: torch.zeros(len(x), 2), torch.ones(3, 1, 4), 1).abs().sum() == 0


@methods
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "uint8, expected floating point"),
        (torch.zeros(2, 4), r"shape \(2, 4\), expected \(N, C, \*spatial\)"),
    ],
)
def test_a_wrong_image_is_refused(method: SaliencyMethod, image: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(Plain(), image, 1)
