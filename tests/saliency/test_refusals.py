"""What has no rule names itself and its module, but only where relevance reaches it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ppi_med.saliency import WBP, UnsupportedOperationError


def image() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 4).double()


def total(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = output[0]
    return output.flatten(1).sum(1)


def explain(network: Callable[[Tensor], Any]) -> Tensor:
    return WBP()(network, image(), total)


class Cubic(torch.autograd.Function):
    """A function of a library that the engine does not know."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * grad * x**2


class InPlaceCubic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(x * x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@torch.jit.script
def scripted_function(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * x


NO_RULE: list[tuple[str, Callable[[Tensor], Any], str]] = [
    ("sin", torch.sin, "'sin'"),
    ("sin in place", lambda x: (x * 1).sin_(), "'sin'"),
    ("log", lambda x: x.abs().log(), "'log'"),
    ("log_softmax", lambda x: F.log_softmax(x, 1), "'log_softmax'"),
    ("softmax as output", lambda x: x.softmax(1), "'softmax'"),
    ("exp as output", torch.exp, "'exp'"),
    ("square root as output", lambda x: x.abs().sqrt(), "'sqrt'"),
    ("product of two signals", lambda x: (x + 1) * (x + 2), "'mul'"),
    ("product in place", lambda x: (x * 1).mul_(x + 2), "'mul'"),
    ("product by keyword", lambda x: torch.mul(input=x + 1, other=x + 2), "'mul'"),
    ("gram matrix", lambda x: x @ x.mT, "'matmul'"),
    ("gram matrix by @", lambda x: torch.einsum("nij,nkj->nik", x, x + 0), "'einsum'"),
    ("weights of the signal", lambda x: F.linear(x[0], x[1]).expand(2, 3, 3), "'linear'"),
    ("signal below", lambda x: 1 / x, "'reciprocal'"),
    ("constant over signal", lambda x: torch.ones(4).double() / x, "'div'"),
    ("rounding", lambda x: torch.div(x, 2, rounding_mode="floor") + x.round(), "'(round|div)'"),
    ("clamp by tensors", lambda x: x.clamp(torch.zeros(4).double()), "'clamp'"),
    ("local response norm", lambda x: F.local_response_norm(x, 2), "'local_response_norm'"),
    ("cosine", lambda x: F.cosine_similarity(x, x + 1, dim=2)[..., None], "'cosine_similarity'"),
    ("prod", lambda x: x.prod(2, keepdim=True), "'prod'"),
    ("variance as output", lambda x: x.var(2, keepdim=True), "'var'"),
    ("variance of var_mean", lambda x: torch.var_mean(x, 2, keepdim=True)[0], "'var_mean'"),
    ("power of the signal", lambda x: 2**x, "'rpow'"),
    ("signal to a power of it", lambda x: x.abs() ** x.abs(), "'pow'"),
    ("negative power in place", lambda x: (x * 1).pow_(-1), "'pow'"),
    ("lstm", lambda x: nn.LSTM(4, 2).double()(x)[0], "'lstm'"),
    ("eigenvalues", lambda x: torch.linalg.svdvals(x), "'linalg_svdvals'"),
    ("foreign", Cubic.apply, r"'tests\.saliency\.test_refusals\.Cubic'"),
    ("foreign, further used", lambda x: F.relu(Cubic.apply(x)) * 2, "Cubic"),
    ("foreign, changed in place", lambda x: Cubic.apply(x).add_(x), "Cubic"),
    ("foreign in place", lambda x: InPlaceCubic.apply(x * 1), "InPlaceCubic"),
    ("scripted", scripted_function, "MulBackward0 .made outside of the recorded forward"),
    ("scripted, further used", lambda x: scripted_function(x) + x, "outside of the recorded"),
]


@pytest.mark.parametrize(("network", "name"), [r[1:] for r in NO_RULE], ids=[r[0] for r in NO_RULE])
def test_an_operation_without_a_rule_names_itself(
    network: Callable[[Tensor], Any], name: str
) -> None:
    with pytest.raises(
        UnsupportedOperationError, match=f"operation {name}" if name[0] == "'" else name
    ):
        explain(network)


@pytest.mark.parametrize("network", [r[1] for r in NO_RULE], ids=[r[0] for r in NO_RULE])
def test_where_relevance_does_not_reach_there_is_no_error(
    network: Callable[[Tensor], Any],
) -> None:
    """The result is used for a decision, a head that is not explained, or a gate."""

    def beside(x: Tensor) -> tuple[Tensor, Any]:
        other = network(x)
        return x * 2, other

    def selecting(x: Tensor) -> Tensor:
        with torch.no_grad():
            decision = total(network(x)) > 1e9
        return torch.where(decision[:, None, None], x, 2 * x)

    def gating(x: Tensor) -> Tensor:
        return 4 * x * torch.sigmoid(0 * total(network(x)).view(2, 1, 1))

    for case in (beside, selecting, gating):
        assert torch.allclose(explain(case), 2 * image())


def test_the_true_derivative_is_untouched() -> None:
    """Training on the output goes through operations without a rule as it would without."""
    for name, network, _ in NO_RULE:
        if name in {"foreign in place"}:
            continue
        w = torch.ones((), dtype=torch.float64, requires_grad=True)
        torch.manual_seed(1)
        recording = WBP().record(lambda x, f=network, w=w: f(x * w), image())
        (got,) = torch.autograd.grad(total(recording.output).sum(), w, allow_unused=True)
        torch.manual_seed(1)
        (expected,) = torch.autograd.grad(total(network(image() * w)).sum(), w, allow_unused=True)
        if expected is not None:
            assert torch.allclose(got, expected), name


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv1d(3, 3, 1), nn.Sequential(nn.ReLU(), Inner()))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def test_the_module_is_named() -> None:
    with pytest.raises(UnsupportedOperationError, match=r"in module 'blocks\.1\.1' \(Inner\)"):
        explain(Outer().double())
    with pytest.raises(UnsupportedOperationError, match=r"in module '\(root\)' \(Inner\)"):
        explain(Inner())
    with pytest.raises(UnsupportedOperationError, match=r"in a module of class Inner"):
        explain(lambda x: Inner()(x))
    with pytest.raises(UnsupportedOperationError, match="in the function sin"):
        explain(torch.sin)


def test_a_monai_swish_keeps_its_rule() -> None:
    from monai.networks.blocks import MemoryEfficientSwish

    swish = MemoryEfficientSwish()

    def network(x: Tensor) -> Tensor:
        y = swish(x * 2)
        z = swish(y)
        z += y  # the foreign result is used twice, once in place
        return z + y

    def plain(x: Tensor) -> Tensor:
        y = F.silu(x * 2)
        return F.silu(y) + 2 * y

    assert torch.allclose(explain(network), explain(plain), rtol=1e-12)


def test_scripted_parts_that_do_not_see_the_image_are_constants() -> None:
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(
        explain(lambda x: x * scripted_function(w)), image() * scripted_function(w)
    )
    assert torch.allclose(explain(lambda x: x * Cubic.apply(w)), image())


def test_a_scripted_module_is_refused() -> None:
    module = torch.jit.script(nn.Sequential(nn.Conv1d(3, 3, 1), nn.SiLU()).double())
    with pytest.raises(UnsupportedOperationError, match="TorchScript"):
        explain(module)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_is_refused_clearly(use_reentrant: bool) -> None:
    conv = nn.Conv1d(3, 3, 1).double()

    def network(x: Tensor) -> Tensor:
        return checkpoint(lambda y: F.silu(conv(y)), x, use_reentrant=use_reentrant)

    with pytest.raises(UnsupportedOperationError, match="[Cc]heckpoint"):
        explain(network)


def test_integers_and_flags_on_the_way() -> None:
    def network(x: Tensor) -> Tensor:
        count = torch.arange(4).double()
        order = x.argsort(dim=2)
        positive = (x > 0).long().sum()
        kept = x.gather(2, order) * (1 + 0 * positive) + 0 * count
        return kept[:, :, torch.tensor([0, 1, 2, 3])] * torch.ones(4, dtype=torch.int64)

    assert torch.allclose(explain(network), image())


def test_questions_about_tensors_are_not_recorded() -> None:
    def network(x: Tensor) -> Tensor:
        assert x.shape == (2, 3, 4) and x.size(1) == 3 and x.dim() == x.ndim == 3
        assert len(x) == 2 and x.numel() == 24 and x.is_contiguous() and x.requires_grad
        assert x.dtype == torch.float64 and x.device.type == "cpu" and not x.is_complex()
        float(x.detach().sum())
        x.detach().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            repr(x)
            bool(x[0, 0, 0] > 0)
        return x

    assert torch.equal(explain(network), image())


def test_an_unknown_operation_that_returns_its_operand_is_no_step() -> None:
    def untouched(x: Tensor) -> Tensor:
        if torch.overrides.has_torch_function((x,)):
            return torch.overrides.handle_torch_function(untouched, (x,), x)
        return x

    assert torch.equal(explain(lambda x: untouched(x) + x.to_dense()), 2 * image())


def test_a_leaf_made_on_the_way_is_left_alone() -> None:
    parameter = nn.Parameter(torch.ones(3, 4))

    def network(x: Tensor) -> Tensor:
        return x + parameter.to(x).view_as(x[0]).expand_as(x) + parameter.type_as(parameter)

    explain(network)
    assert vars(parameter) == {}


class Explained(nn.Module):
    """A step that says itself what relevance should see."""

    def forward(self, x: Tensor) -> Tensor:
        return bounded(self, x)


def bounded(module: nn.Module, x: Tensor) -> Tensor:
    if torch.overrides.has_torch_function((x,)):
        return torch.overrides.handle_torch_function(bounded, (x,), module, x)
    return torch.sin(x)


bounded.saliency_surrogate = lambda module, x: x * torch.cos(x).detach()  # type: ignore[attr-defined]


def test_a_surrogate_is_explained_in_place_of_the_function() -> None:
    x = image()
    recording = WBP().record(Explained(), x)
    assert torch.equal(recording.output, torch.sin(x))
    assert torch.allclose(recording.saliency(total), x * torch.cos(x))


def test_detach_in_a_surrogate_keeps_its_derivative() -> None:
    w = torch.ones((), dtype=torch.float64, requires_grad=True)
    network = Explained()
    s = WBP()(lambda x: network(x * w), image(), total, create_graph=True)
    (got,) = torch.autograd.grad(s.sum(), w)
    x = image()
    (expected,) = torch.autograd.grad((x * w * torch.cos(x * w)).sum(), w)
    assert torch.allclose(got, expected)


def test_synchronised_batch_norm_says_what_to_do_instead() -> None:
    """It runs on several devices only, so that a function of its name stands for it."""
    from torch.nn.modules._functions import SyncBatchNorm

    assert SyncBatchNorm.__module__ == "torch.nn.modules._functions"
    named = {"__module__": SyncBatchNorm.__module__, "__qualname__": "SyncBatchNorm"}
    synchronised: Any = type("SyncBatchNorm", (Cubic,), named)
    with pytest.raises(UnsupportedOperationError, match="with BatchNorm, DistributedDataParallel"):
        explain(lambda x: synchronised.apply(x) * 2)
