"""The map of one image is its row of a batch, and no order in memory changes a gradient.

torch 2.13 on a CPU has an operation whose backward does not promise that (see
`ppi_med/saliency/norm_derivatives.py`), so all that are left to it are tried, in double precision.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.saliency import (
    LRP,
    WBP,
    SaliencyMethod,
    UnsupportedOperationError,
    norm_derivatives,
    wbp_completeness,
)
from tests.saliency.methods import METHODS
from tests.saliency.operations_table import Operation, orders, random, table

MOST = 1e-9
OPERATIONS = table()
# torch has no second derivative of these.
ONCE = ("attention FLASH", "MultiheadAttention", "hardsigmoid", "cdist")
operations = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
methods = pytest.mark.parametrize("method", [m() for m in METHODS.values()], ids=list(METHODS))


def close(got: Tensor | None, expected: Tensor | None, scale: Tensor, what: str) -> None:
    if got is None or expected is None:
        assert got is None and expected is None
        return
    expected = expected.detach()
    size = max(float(expected.abs().max()), 1e-3 * float(scale.detach().abs().max()), 1e-6)
    error = float((got.detach() - expected).abs().max()) / size
    assert error <= MOST, f"{what}: relative error {error:.1e}"


def derivatives(
    operation: Operation, x: Tensor, g: Tensor, v: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """Return dy/dx and dy/dparameters along ``g``; with ``v`` also the slopes of (dy/dx v)."""
    x, g = x.clone().requires_grad_(), g.detach().requires_grad_()
    inputs = (x, *operation.parameters)
    with norm_derivatives():
        y = operation.function(x)
    first = torch.autograd.grad(y, inputs, g, create_graph=v is not None, allow_unused=True)
    if v is None or first[0] is None or not first[0].requires_grad:
        return first
    second = torch.autograd.grad(first[0], (g, *inputs), v, allow_unused=True)
    return (*first, *second)


@operations
def test_gradients_of_one_and_of_two_in_every_order(operation: Operation) -> None:
    torch.manual_seed(1)
    two = random(2, *operation.shape)
    g = torch.randn_like(operation.function(two))
    twice = not operation.name.startswith(ONCE)
    for (order, wide), (_, one) in zip(orders(g), orders(g[:1]), strict=True):
        v = torch.randn_like(two)
        plain = wide.clone(memory_format=torch.contiguous_format)
        expected = derivatives(operation, two, plain, v if twice else None)
        got = derivatives(operation, two, wide, v if twice else None)
        for a, b in zip(got, expected, strict=True):
            close(a, b, g, f"two, {order}")
        # Of one image: its row, and parameters' parts where the other image has no gradient.
        plain, v = plain.clone(), v.clone()
        plain[1] = 0
        v[1] = 0
        expected = derivatives(operation, two, plain, v if twice else None)
        got = derivatives(operation, two[:1], one, v[:1] if twice else None)
        for a, b in zip(got, expected, strict=True):
            row = b if a is None or b is None or a.shape == b.shape else b[:1]
            close(a, row, g, f"one, {order}")


@operations
def test_the_reference_is_the_slope(operation: Operation) -> None:
    """What the others are compared with, against finite differences."""
    torch.manual_seed(1)
    x = random(2, *operation.shape)
    g = torch.randn_like(operation.function(x))
    way, step = torch.randn_like(x), 1e-6
    (slope, *_) = derivatives(operation, x, g)
    assert slope is not None
    with torch.no_grad():
        rise = operation.function(x + step * way) - operation.function(x - step * way)
    expected = float((rise * g).sum()) / (2 * step)
    assert float((slope * way).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@operations
@pytest.mark.parametrize("method", [WBP(), LRP()], ids=["WBP", "LRP"])
def test_relevance_of_one_and_of_two_in_every_order(
    operation: Operation, method: SaliencyMethod
) -> None:
    torch.manual_seed(1)
    two = random(2, *operation.shape, *([2] if len(operation.shape) == 1 else []))
    function = operation.function
    if len(operation.shape) == 1:  # a map wants (N, C, *spatial)
        function = lambda x: operation.function(x[..., 0])  # noqa: E731
    g = torch.randn_like(function(two))

    def found(x: Tensor, g: Tensor) -> Tensor:
        recording: Any = method.record(function, x)
        with recording.forward.switch:
            return torch.autograd.grad(recording.output, recording.image, g)[0]

    try:
        found(two, g)
    except (UnsupportedOperationError, NotImplementedError):
        pytest.skip("has no rule")
    for (order, wide), (_, one) in zip(orders(g), orders(g[:1]), strict=True):
        expected = found(two, wide.clone(memory_format=torch.contiguous_format))
        close(found(two, wide), expected, g, f"two, {order}")
        close(found(two[:1], one), expected[:1], g, f"one, {order}")


class Tokens(nn.Module):
    """Convolution and norm in front of tokens, in forms that networks have them in."""

    def __init__(self, norm: Callable[[int], nn.Module], dims: int, head: str) -> None:
        super().__init__()
        self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](1, 3, 3, padding=1)
        self.norm, self.head = norm(3), head
        self.place = nn.Parameter(torch.randn(4**dims, 3))
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
        self.layer_norm, self.last = nn.LayerNorm(3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if self.head == "sequence first":
            return self.last((x.flatten(2).permute(2, 0, 1) * self.place[:, None]).sum(0))
        tokens = x.flatten(2).transpose(1, 2)
        if self.head == "places":
            tokens = tokens * self.place
        elif self.head == "attention":
            tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0] * self.place
        else:
            tokens = self.layer_norm(tokens) * self.place
        return self.last(tokens.sum(1))


class Functional(nn.Module):
    """Batch normalisation called as a function, in torch's own order of arguments."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        n = self.inner
        return torch.batch_norm(
            x, n.weight, n.bias, n.running_mean, n.running_var, False, 0.1, n.eps, True
        )


NORMS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "batch 1D": (nn.BatchNorm1d, 1),
    "batch 2D": (nn.BatchNorm2d, 2),
    "batch 3D": (nn.BatchNorm3d, 3),
    "synchronised": (nn.SyncBatchNorm, 2),
    "as a function": (Functional, 2),
    "instance": (lambda c: nn.InstanceNorm2d(c, affine=True), 2),
    "instance running": (lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True), 2),
    "group": (lambda c: nn.GroupNorm(3, c), 2),
}
HEADS = ("places", "attention", "layer norm", "sequence first")
norms = pytest.mark.parametrize("norm", list(NORMS))
heads = pytest.mark.parametrize("head", HEADS)


def tokens(norm: str, head: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, dims = NORMS[norm]
    module = Tokens(make, dims, head).double().eval()
    for part in module.modules():
        if isinstance(getattr(part, "running_mean", None), Tensor):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module, random(2, 1, *[4] * dims)


@methods
@heads
@norms
def test_the_map_of_one_image(method: SaliencyMethod, head: str, norm: str) -> None:
    module, image = tokens(norm, head)
    for create_graph in (False, True):
        both = method(module, image, 1, create_graph=create_graph).detach()
        for i in (0, 1):
            one = method(module, image[i : i + 1], 1, create_graph=create_graph).detach()
            close(one, both[i : i + 1], both, f"image {i}")
    assert both.abs().max() > 0


def parameter_gradients(method: SaliencyMethod, module: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the gradients of a loss on logits and maps, as a training step with PPI has them."""
    module.zero_grad()
    recording = method.record(module, image)
    s = recording.saliency(1, create_graph=True)
    (recording.output.square().sum() + s.square().sum()).backward()
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


@methods
@heads
@norms
def test_the_training_step_of_one_image(method: SaliencyMethod, head: str, norm: str) -> None:
    """Gradients of a batch are the sum of those of its images, through logits and maps."""
    module, image = tokens(norm, head)
    both = parameter_gradients(method, module, image)
    one, other = (parameter_gradients(method, module, x) for x in image.split(1))
    assert len(both) == len(one) > 2
    largest = torch.stack([gradient.abs().max() for gradient in both]).max()
    for a, b, whole in zip(one, other, both, strict=True):
        close(a + b, whole, largest, "parameters")


@heads
@norms
@pytest.mark.parametrize("images", [1, 2])
def test_completeness_accounts_for_the_very_map(head: str, norm: str, images: int) -> None:
    module, image = tokens(norm, head)
    parts = wbp_completeness(module, image[:images], 1)
    s = WBP()(module, image[:images], 1)
    close(parts.saliency, s, s, "map")
    assert parts.relevance == pytest.approx(float(s.sum()), rel=1e-12)
    assert parts.relative_error <= MOST


@pytest.mark.parametrize("network", ["TorchScript", "exported", "compiled"])
def test_networks_that_are_not_run_as_written(network: str) -> None:
    """Forwards that no mode sees, or sees as single operations of aten."""
    module, image = tokens("batch 2D", "places")
    expected = {name: METHODS[name]()(module, image, 1) for name in METHODS}
    if network == "TorchScript":
        other: Any = torch.jit.script(module)
    elif network == "compiled":
        other = torch.compile(module, backend="aot_eager")
    else:
        other = torch.export.export(module, (image[:1],)).module()
    for name, make in METHODS.items():
        for _ in range(3):  # TorchScript changes its way of running with the third call
            try:
                got = make()(other, image[:1], 1)
            except (UnsupportedOperationError, ValueError):
                # Refused: operations without a rule, no convolution for GradCAM in sight.
                assert network != "compiled" and name not in ("Gradient", "Integrated gradients")
                break
            close(got, expected[name][:1], expected[name], name)


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_are_those_of_torch(statistics: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).to(dtype).train(statistics == "batch")
    alone = copy.deepcopy(norm)
    x = torch.randn(1, 3, 4, 5).to(dtype).requires_grad_()
    with norm_derivatives():
        out = norm(x)
    assert torch.equal(out, alone(x)) and out.dtype == dtype
    assert torch.equal(norm.running_mean, alone.running_mean)
    out.sum().backward()
    assert x.grad is not None and x.grad.dtype == dtype
    assert norm.weight.grad is not None and norm.weight.grad.dtype == dtype


def test_half_precision_with_single_precision_parameters() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).eval()
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(1, 3, 4, 5).bfloat16().requires_grad_()
    with norm_derivatives():
        out = norm(x)
    (slope, of_weight) = torch.autograd.grad(out.sum(), (x, norm.weight))
    assert slope.dtype == torch.bfloat16 and of_weight.dtype == torch.float32
    expected = norm.weight.detach() / (1 + norm.eps) ** 0.5
    torch.testing.assert_close(slope[0, :, 0, 0].float(), expected, rtol=1e-2, atol=1e-3)


def test_metatensors_pass() -> None:
    from monai.data import MetaTensor

    norm = nn.BatchNorm2d(2).double().eval()
    image = MetaTensor(random(1, 2, 3, 3)).requires_grad_()
    with norm_derivatives():
        out = norm(image)
    assert isinstance(out, MetaTensor)
    (slope,) = torch.autograd.grad(out.flatten(2).transpose(1, 2)[0, :, 0].sum(), image)
    assert float(slope[0, 1].abs().max()) == 0
    assert float(slope[0, 0].min()) > 0.9


def test_constants_of_the_map_reach_the_norm_too() -> None:
    """A norm of trained tokens, which do not depend on the image, has right gradients as well."""
    norm = nn.BatchNorm1d(3).double().eval()
    with torch.no_grad():
        norm.weight.normal_()
    learned, readout = nn.Parameter(random(1, 3, 4)), random(4, 3)

    def network(x: Tensor) -> Tensor:
        return x.sum((1, 2))[:, None] + (norm(learned).transpose(1, 2) * readout).sum((1, 2))

    recording = WBP().record(network, random(1, 1, 4))
    (slope,) = torch.autograd.grad(recording.output.sum(), learned)
    expected = readout.t() * (norm.weight / (1 + norm.eps) ** 0.5)[:, None]
    close(slope[0], expected, expected, "tokens")


def all_of(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values])


def test_the_first_convolution_of_altered_images() -> None:
    """The convolution that a PPI step passes altered images through, in every order."""
    from ppi_med.handlers.altered_images import fast_image_gradient

    torch.manual_seed(0)
    w = random(4, 1, 3, 3).requires_grad_()
    for x in (random(1, 1, 6, 6), random(2, 1, 6, 6)):
        x.requires_grad_()
        g = random(len(x), 4, 4, 4)
        for order, other in orders(g):
            expected = torch.autograd.grad(F.conv2d(x, w), (x, w), other.contiguous())
            with fast_image_gradient(x):
                y = F.conv2d(x, w)
            got = torch.autograd.grad(y, (x, w), other)
            close(all_of(got), all_of(expected), g, order)
