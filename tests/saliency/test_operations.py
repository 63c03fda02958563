"""Spellings of single operations that are easily missed: in place, by keyword, by view."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.saliency import WBP

Function = Callable[[Tensor], Tensor]


def image() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 4, 6).double()


def total(output: Tensor) -> Tensor:
    weights = torch.linspace(0.5, 2, output[0].numel()).double()
    return output.flatten(1) @ weights


def assert_same_map(network: Function, expected: Function) -> None:
    x = image()
    recording, other = WBP().record(network, x), WBP().record(expected, x)
    assert torch.allclose(recording.output, network(x.clone()), rtol=1e-13, atol=1e-13)
    assert torch.allclose(recording.output, other.output, rtol=1e-13, atol=1e-13)
    s = recording.saliency(total)
    assert torch.allclose(s, other.saliency(total), rtol=1e-11, atol=1e-13)
    assert s.abs().max() > 0


def changed(operation: Callable[[Tensor], object]) -> Function:
    """Use the operand after an operation in place, not its result."""

    def network(x: Tensor) -> Tensor:
        y = x * 1
        operation(y)
        return y

    return network


IN_PLACE: list[tuple[str, Callable[[Tensor], object], Function]] = [
    ("silu", lambda y: F.silu(y, inplace=True), F.silu),
    ("silu by position", lambda y: F.silu(y, True), F.silu),
    ("SiLU", nn.SiLU(inplace=True), F.silu),
    ("mish", lambda y: F.mish(y, inplace=True), F.mish),
    ("hardswish", lambda y: F.hardswish(y, inplace=True), F.hardswish),
    ("hardsigmoid", lambda y: F.hardsigmoid(y, inplace=True), F.hardsigmoid),
    ("relu", lambda y: F.relu(y, inplace=True), F.relu),
    ("relu6", lambda y: F.relu6(y, inplace=True), F.relu6),
    ("hardtanh", lambda y: F.hardtanh(y, -0.5, 0.5, True), lambda x: F.hardtanh(x, -0.5, 0.5)),
    ("elu", lambda y: F.elu(y, 0.7, inplace=True), lambda x: F.elu(x, 0.7)),
    ("elu_", F.elu_, F.elu),
    ("celu", lambda y: F.celu(y, 2.0, inplace=True), lambda x: F.celu(x, 2.0)),
    ("selu", lambda y: F.selu(y, inplace=True), F.selu),
    ("leaky_relu", lambda y: F.leaky_relu(y, 0.1, True), lambda x: F.leaky_relu(x, 0.1)),
    ("threshold", lambda y: F.threshold(y, 0.1, 0.2, True), lambda x: F.threshold(x, 0.1, 0.2)),
    ("sigmoid_", lambda y: y.sigmoid_(), torch.sigmoid),
    ("torch.sigmoid_", torch.sigmoid_, torch.sigmoid),
    ("tanh_", lambda y: y.tanh_(), torch.tanh),
    ("clamp_", lambda y: y.clamp_(min=-0.5, max=1), lambda x: torch.clamp(x, -0.5, 1)),
    ("square_", lambda y: y.square_(), torch.square),
    ("pow_", lambda y: y.pow_(3), lambda x: x**3),
    ("**=", lambda y: y.__ipow__(2), lambda x: x * x),
    ("mul_", lambda y: y.mul_(torch.sigmoid(y)), F.silu),
    ("mul_ of a method", lambda y: y.mul_(y.sigmoid()), F.silu),
    ("*=", lambda y: y.__imul__(torch.sigmoid(y)), F.silu),
    ("div_", lambda y: y.div_(1 + y.clone().abs()), F.softsign),
    ("add_", lambda y: y.add_(F.silu(y.clone()), alpha=2), lambda x: x + 2 * F.silu(x)),
    ("sub_", lambda y: y.sub_(F.silu(y.clone())), lambda x: x - F.silu(x)),
    ("lerp_", lambda y: y.lerp_(-y, 0.25), lambda x: x / 2),
    (
        "addcmul_",
        lambda y: y.addcmul_(torch.sigmoid(y), y.clone(), value=2),
        lambda x: x + 2 * F.silu(x),
    ),
    ("copy_", lambda y: y.copy_(F.silu(y.clone())), F.silu),
    ("masked_fill_", lambda y: y.masked_fill_(y < 0, 0), F.relu),
    ("setitem by mask", lambda y: y.__setitem__(y < 0, 0), F.relu),
    (
        "setitem of a part",
        lambda y: y.__setitem__((slice(None), 1), F.silu(y[:, 0].clone())),
        lambda x: torch.cat([x[:, :1], F.silu(x[:, :1]), x[:, 2:]], 1),
    ),
    ("dropout", lambda y: F.dropout(y, 0.0, True, True), lambda x: x),
]


@pytest.mark.parametrize(
    ("operation", "expected"), [r[1:] for r in IN_PLACE], ids=[r[0] for r in IN_PLACE]
)
def test_in_place(operation: Callable[[Tensor], object], expected: Function) -> None:
    assert_same_map(changed(operation), expected)


@pytest.mark.parametrize(
    ("operation", "expected"), [r[1:] for r in IN_PLACE], ids=[r[0] for r in IN_PLACE]
)
def test_in_place_on_a_view(operation: Callable[[Tensor], object], expected: Function) -> None:
    """A change of a part shows in the whole."""

    def network(x: Tensor) -> Tensor:
        whole = torch.cat([x, x], dim=2)
        operation(whole[:, :, 6:])
        return F.silu(whole)

    assert_same_map(network, lambda x: F.silu(torch.cat([x, expected(x)], dim=2)))


def test_derivatives_of_in_place_operations() -> None:
    for _, operation, expected in IN_PLACE:
        function = changed(operation)
        x = image()
        w = torch.ones((), dtype=torch.float64, requires_grad=True)
        got = WBP().record(lambda x, f=function, w=w: f(x * w), x).output
        (a,) = torch.autograd.grad(total(got).sum(), w)
        (b,) = torch.autograd.grad(total(expected(x * w)).sum(), w)
        assert torch.allclose(a, b, rtol=1e-10)


BY_KEYWORD: list[tuple[str, Function, Function]] = [
    ("silu", lambda x: F.silu(input=x), F.silu),
    (
        "gelu",
        lambda x: F.gelu(input=x, approximate="tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    ("sigmoid", lambda x: torch.sigmoid(input=x), torch.sigmoid),
    ("softplus", lambda x: F.softplus(input=x, beta=2), lambda x: F.softplus(x, 2)),
    ("clamp", lambda x: torch.clamp(input=x, max=0.5), lambda x: x.clamp(max=0.5)),
    ("clamp by method", lambda x: x.clamp(min=-0.5), lambda x: torch.clamp_min(x, -0.5)),
    ("clamp_max", lambda x: x.clamp_max(max=0.5), lambda x: x.clamp(None, 0.5)),
    ("clip", lambda x: x.clip(-0.5, 0.5), lambda x: F.hardtanh(x, -0.5, 0.5)),
    ("mul", lambda x: torch.mul(input=x, other=torch.sigmoid(x)), F.silu),
    ("mul by method", lambda x: x.mul(other=torch.sigmoid(x)), F.silu),
    ("multiply", lambda x: torch.multiply(torch.sigmoid(x), x), F.silu),
    ("div", lambda x: torch.div(input=x, other=1 + x.abs()), F.softsign),
    ("div by method", lambda x: x.div(other=1 + x.abs()), F.softsign),
    ("true_divide", lambda x: torch.true_divide(x, 1 + x.abs()), F.softsign),
    ("reciprocal", lambda x: x * (1 / (1 + x.abs())), F.softsign),
    ("reciprocal by method", lambda x: x * (1 + x.abs()).reciprocal(), F.softsign),
    ("negative power", lambda x: x * (1 + x.abs()) ** -1, F.softsign),
    ("pow", lambda x: torch.pow(input=x, exponent=3), lambda x: x**3),
    ("pow of a tensor", lambda x: x.pow(torch.tensor(3)), lambda x: x**3),
    ("float_power", lambda x: torch.float_power(x, 3), lambda x: x**3),
    ("square", lambda x: torch.square(input=x), lambda x: x * x),
    ("matmul", lambda x: torch.bmm(input=x.softmax(2), mat2=x.mT), lambda x: x.softmax(2) @ x.mT),
    (
        "baddbmm",
        lambda x: torch.baddbmm(input=x[:, :, :4], batch1=x.softmax(2), batch2=x.mT),
        lambda x: x[:, :, :4] + x.softmax(2) @ x.mT,
    ),
    (
        "addmm",
        lambda x: torch.addmm(x[0, :, :4], mat1=x[0].softmax(1), mat2=x[0].mT).expand(3, 4, 4),
        lambda x: (x[0, :, :4] + x[0].softmax(1) @ x[0].mT).expand(3, 4, 4),
    ),
    (
        "addcmul",
        lambda x: torch.addcmul(x, torch.sigmoid(x), x, value=0.5),
        lambda x: x + 0.5 * F.silu(x),
    ),
    (
        "addcdiv",
        lambda x: torch.addcdiv(x, x, 1 + x.abs(), value=0.5),
        lambda x: x + 0.5 * F.softsign(x),
    ),
    ("lerp", lambda x: torch.lerp(x, -x, torch.sigmoid(x)), lambda x: x - 2 * F.silu(x)),
    ("einsum of a list", lambda x: torch.einsum("ncl,ncl->ncl", [torch.sigmoid(x), x]), F.silu),
    (
        "linear",
        lambda x: F.linear(input=x, weight=torch.eye(6).double()[:3]),
        lambda x: x[:, :, :3],
    ),
    (
        "layer_norm",
        lambda x: F.layer_norm(input=x, normalized_shape=(6,)),
        lambda x: F.layer_norm(x, (6,)),
    ),
    (
        "batch_norm",
        lambda x: F.batch_norm(x, running_mean=None, running_var=None, training=True),
        lambda x: (
            (x - x.mean((0, 2), keepdim=True).detach())
            / (x.var((0, 2), correction=0, keepdim=True) + 1e-5).sqrt()
        ),
    ),
    ("add with alpha", lambda x: torch.add(x, F.silu(x), alpha=2), lambda x: x + 2 * F.silu(x)),
    ("rsub with alpha", lambda x: torch.rsub(x, F.silu(x), alpha=2), lambda x: F.silu(x) - 2 * x),
    (
        "by hand: var_mean",
        lambda x: (lambda v, m: (x - m) * torch.rsqrt(v + 1e-5))(
            *torch.var_mean(x, 2, correction=0, keepdim=True)
        ),
        lambda x: F.layer_norm(x, (6,)),
    ),
    (
        "by hand: sqrt",
        lambda x: (
            (x - x.mean(2, keepdim=True)) / torch.sqrt(x.var(2, correction=0, keepdim=True) + 1e-5)
        ),
        lambda x: F.layer_norm(x, (6,)),
    ),
    ("by hand: GELU", lambda x: 0.5 * x * (1 + torch.erf(x * 0.5**0.5)), F.gelu),
    (
        "by hand: softmax gate",
        lambda x: x * (x.exp() / x.exp().sum(1, keepdim=True)),
        lambda x: x * x.softmax(1),
    ),
    (
        "gate in pieces",
        lambda x: (
            x * torch.cat([g.contiguous() for g in torch.sigmoid(x).chunk(2, 2)], 2).view(3, 4, 6)
        ),
        F.silu,
    ),
    (
        "gate of a gate",
        lambda x: x * (torch.sigmoid(x) * (1 - torch.sigmoid(-x))),
        lambda x: x * torch.sigmoid(x).square().detach(),
    ),
    (
        "gate by expand_as",
        lambda x: x * torch.sigmoid(x[:, :1]).expand_as(x),
        lambda x: x * torch.sigmoid(x[:, :1]),
    ),
    (
        "weights by expand_as",
        lambda x: x * torch.full((4, 1), 2.0).double().requires_grad_().mul(1).expand_as(x),
        lambda x: 2 * x,
    ),
    (
        "weights by type_as",
        lambda x: x * torch.full((4, 1), 2.0).requires_grad_().type_as(x),
        lambda x: 2 * x,
    ),
    (
        "weights by broadcast_tensors",
        lambda x: torch.mul(
            *torch.broadcast_tensors(x, torch.full((4, 1), 2.0).double().requires_grad_().mul(1))
        ),
        lambda x: 2 * x,
    ),
    ("fft", lambda x: torch.fft.irfft(torch.fft.rfft(x) * 2), lambda x: 2 * x),
    ("complex", lambda x: torch.view_as_real(torch.complex(x, 2 * x) * 1j).sum(-1), lambda x: -x),
    ("real part", lambda x: torch.complex(x, x).real + torch.complex(x, x).imag, lambda x: 2 * x),
    (
        "top values",
        lambda x: x.topk(2, dim=2).values,
        lambda x: x.sort(dim=2, descending=True)[0][:, :, :2],
    ),
    ("max of two", lambda x: torch.max(x, -x), torch.abs),
    ("max by dimension", lambda x: torch.max(x, dim=2)[0], lambda x: x.amax(2)),
]


@pytest.mark.parametrize(
    ("network", "expected"), [r[1:] for r in BY_KEYWORD], ids=[r[0] for r in BY_KEYWORD]
)
def test_spelling(network: Function, expected: Function) -> None:
    assert_same_map(network, expected)
