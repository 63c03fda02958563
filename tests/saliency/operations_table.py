"""Operations whose way back is torch's own, or ours: one line each, with a shape of one sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

D = torch.float64


@dataclass(frozen=True)
class Operation:
    """A function of a batch ``(N, *shape)``, sample by sample."""

    name: str
    function: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    parameters: tuple[Tensor, ...] = field(default=())


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=D)


def trained(*shape: int) -> Tensor:
    return random(*shape).requires_grad_()


def orders(g: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield ``g`` in several orders in memory, and expanded tensors in its place."""
    yield "contiguous", g.clone(memory_format=torch.contiguous_format)
    yield "every second", torch.stack([g, g], -1)[..., 0]
    yield "expanded over channels", g[:, :1].expand_as(g)
    yield "expanded over all", g.flatten(1)[:, 0].view(-1, *[1] * (g.ndim - 1)).expand_as(g)
    yield "batch last", g.movedim(0, -1).contiguous().movedim(-1, 0)
    if g.ndim > 2:
        last = g.flatten(2).transpose(1, 2)
        yield "tokens", last.contiguous().transpose(1, 2).unflatten(2, g.shape[2:])
        first = last.transpose(0, 1).contiguous().transpose(0, 1)
        yield "sequence first", first.transpose(1, 2).unflatten(2, g.shape[2:])
        yield "permuted", g.movedim(-1, 1).contiguous().movedim(1, -1)
    if g.ndim in (4, 5):
        form = torch.channels_last if g.ndim == 4 else torch.channels_last_3d
        yield "channels last", g.clone(memory_format=form)


def table() -> list[Operation]:
    torch.manual_seed(0)
    rows = [*_norms(), *_pointwise(), *_products(), *_moves()]
    for dims in (1, 2, 3):
        rows += _spatial(dims)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    return rows


def _norms() -> Iterator[Operation]:
    for shape in ((3,), (3, 4), (3, 4, 5), (3, 2, 3, 2), (1, 4, 5), (3, 1, 5), (3, 5, 1)):
        c, at = shape[0], "x".join(map(str, shape))
        mean, variance = random(c), torch.rand(c, dtype=D) + 0.5
        w, b = trained(c), trained(c)
        calls: dict[str, Callable[[Tensor], Tensor]] = {
            "F": lambda x, m=mean, v=variance, w=w, b=b: F.batch_norm(x, m, v, w, b),
            "torch": lambda x, m=mean, v=variance, w=w, b=b: torch.batch_norm(
                x, w, b, m, v, False, 0.1, 1e-5, True
            ),
            "native": lambda x, m=mean, v=variance, w=w, b=b: torch.native_batch_norm(
                x, w, b, m, v, False, 0.1, 1e-5
            )[0],
            "module": _module(nn.SyncBatchNorm(c), mean, variance, w, b),
        }
        for name, call in calls.items():
            if name != "module" or len(shape) > 1:
                yield Operation(f"batch_norm {name} {at}", call, shape, (w, b))
        yield Operation(
            f"batch_norm without weight {at}",
            lambda x, m=mean, v=variance: F.batch_norm(x, m, v),
            shape,
        )
        yield Operation(f"layer_norm {at}", lambda x, s=shape: F.layer_norm(x, s), shape)
        yield Operation(f"rms_norm {at}", lambda x, s=shape: F.rms_norm(x, s), shape)
        if len(shape) > 1:
            yield Operation(
                f"layer_norm of the last {at}",
                lambda x, s=shape[-1:]: F.layer_norm(x, s, torch.arange(1.0, 1 + s[0], dtype=D)),
                shape,
            )
            yield Operation(
                f"instance_norm {at}",
                lambda x, w=w, b=b: F.instance_norm(x, weight=w, bias=b),
                shape,
                (w, b),
            )
            yield Operation(
                f"instance_norm running {at}",
                lambda x, m=mean, v=variance, w=w, b=b: F.instance_norm(x, m, v, w, b, False),
                shape,
                (w, b),
            )
            yield Operation(
                f"instance_norm torch {at}",
                lambda x, w=w, b=b: torch.instance_norm(x, w, b, None, None, True, 0.1, 1e-5, True),
                shape,
                (w, b),
            )
            yield Operation(
                f"batch_norm of each sample {at}",  # batch statistics of a batch of one
                lambda x, w=w, b=b: torch.cat(
                    [F.batch_norm(one, None, None, w, b, True) for one in x.split(1)]
                ),
                shape,
                (w, b),
            )
            w2, b2 = trained(2 * c), trained(2 * c)
            yield Operation(
                f"group_norm {at}",
                lambda x, w=w2, b=b2: F.group_norm(torch.cat([x, x], 1), 2, w, b),
                shape,
                (w2, b2),
            )
    yield Operation("local_response_norm", lambda x: F.local_response_norm(x, 2), (4, 5, 5))
    for p in (1.0, 2.0):
        yield Operation(f"normalize {p}", lambda x, p=p: F.normalize(x, p), (4, 5))


def _module(module: Any, mean: Tensor, variance: Tensor, w: Tensor, b: Tensor) -> Any:
    module = module.eval()
    module.running_mean, module.running_var = mean, variance
    values = {"weight": w, "bias": b}
    return lambda x: torch.func.functional_call(module, values, (x,))


def _pointwise() -> Iterator[Operation]:
    names = """relu leaky_relu silu gelu mish hardswish elu celu selu tanh sigmoid softsign softplus
    logsigmoid relu6 hardtanh hardsigmoid hardshrink softshrink tanhshrink"""
    for shape in ((5,), (3, 4), (3, 4, 5), (3, 2, 3, 4)):
        at = "x".join(map(str, shape))
        for name in names.split():
            yield Operation(f"{name} {at}", getattr(F, name), shape)
        w = trained(shape[0])
        yield Operation(f"prelu {at}", lambda x, w=w: F.prelu(x, w), shape, (w,))
        yield Operation(f"softmax {at}", lambda x: x.softmax(1), shape)
        yield Operation(f"log_softmax {at}", lambda x: x.log_softmax(-1), shape)
        yield Operation(f"glu {at}", lambda x: F.glu(torch.cat([x, x * 2], 1), 1), shape)
        yield Operation(f"dropout in evaluation {at}", lambda x: F.dropout(x, 0.5, False), shape)
        yield Operation(f"power {at}", lambda x: x.pow(3), shape)
        yield Operation(f"clamp {at}", lambda x: x.clamp(-0.5, 0.5), shape)
        yield Operation(f"division {at}", lambda x: x / (1 + x.square()), shape)
        yield Operation(f"where {at}", lambda x: torch.where(x > 0, x, 2 * x), shape)


def _products() -> Iterator[Operation]:
    w, b = trained(5, 4), trained(5)
    for shape in ((4,), (3, 4), (2, 3, 4)):
        at = "x".join(map(str, shape))
        yield Operation(f"linear {at}", lambda x: F.linear(x, w, b), shape, (w, b))
    yield Operation("einsum", lambda x: torch.einsum("nct,dt->ncd", x, w), (3, 4), (w,))
    yield Operation("matmul", lambda x: x @ w.t(), (3, 4), (w,))
    yield Operation("bmm", lambda x: torch.bmm(x, x.mT), (3, 4))
    yield Operation("addmm", lambda x: torch.addmm(b, x, w.t()), (4,), (w, b))
    yield Operation("cdist", lambda x: torch.cdist(x, 2 * x + 1), (3, 4))
    w3 = trained(5, 4, 4)
    yield Operation("bilinear", lambda x: F.bilinear(x, x.flip(1), w3), (4,), (w3,))
    yield Operation("bilinear of tokens", lambda x: F.bilinear(x, x.flip(1), w3), (3, 4), (w3,))
    for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        for causal in (False, True):
            for heads in (1, 2):
                yield Operation(
                    f"attention {backend.name} {causal} {heads}",
                    _attention(backend, causal),
                    (heads, 6, 4),
                )
    attention = nn.MultiheadAttention(4, 2, batch_first=True, dtype=D).eval()
    yield Operation(
        "MultiheadAttention",
        lambda x: attention(x, x, x, need_weights=False)[0],
        (5, 4),
        tuple(attention.parameters()),
    )
    for kind in (nn.GRU, nn.LSTM):
        cells = kind(4, 3, batch_first=True, dtype=D)
        yield Operation(
            kind.__name__, lambda x, m=cells: m(x)[0], (5, 4), tuple(m for m in cells.parameters())
        )
    vectors = trained(7, 4)
    yield Operation(
        "embedding",
        lambda x: x + F.embedding(torch.tensor([0, 3, 3]).expand(len(x), 3), vectors),
        (3, 4),
        (vectors,),
    )


def _attention(backend: SDPBackend, causal: bool) -> Callable[[Tensor], Tensor]:
    def attend(x: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(x, x * 0.5, x.flip(2), is_causal=causal)

    return attend


def _moves() -> Iterator[Operation]:
    shape = (3, 4, 4)
    moves: dict[str, Callable[[Tensor], Tensor]] = {
        "cat": lambda x: torch.cat([x, 2 * x], 1),
        "stack": lambda x: torch.stack([x, 2 * x], 1),
        "index": lambda x: x[:, [0, 0, 2]],
        "index_select": lambda x: x.index_select(1, torch.tensor([0, 0, 1])),
        "gather": lambda x: x.gather(1, torch.zeros(len(x), 2, 4, 4, dtype=torch.long)),
        "masked_fill": lambda x: x.masked_fill(torch.eye(4, dtype=torch.bool), 2.0),
        "roll": lambda x: x.roll(1, 2),
        "flip": lambda x: x.flip(2),
        "rot90": lambda x: x.rot90(1, (2, 3)),
        "tokens": lambda x: x.flatten(2).transpose(1, 2),
        "sequence first": lambda x: x.flatten(2).permute(2, 0, 1).mean(0),
        "repeat": lambda x: x.repeat(1, 2, 1, 1),
        "unfold of a tensor": lambda x: x.unfold(2, 2, 1),
        "im2col": lambda x: F.unfold(x, 3),
        "mean": lambda x: x.mean((2, 3)),
        "sum": lambda x: x.sum(1),
        "std": lambda x: x.std((2, 3)),
        "var_mean": lambda x: torch.add(*torch.var_mean(x, (2, 3))),
        "amax": lambda x: x.amax(-1),
        "max": lambda x: x.max(-1).values,
        "sort": lambda x: x.sort(-1).values,
        "topk": lambda x: x.topk(2, -1).values,
        "median": lambda x: x.median(-1).values,
        "logsumexp": lambda x: x.logsumexp(-1),
        "cumsum": lambda x: x.cumsum(1),
        "norm": lambda x: torch.linalg.vector_norm(x, dim=1),
        "rfft": lambda x: torch.fft.rfft(x).abs(),
        "tril": lambda x: x.tril(),
        "in place": lambda x: (x * 1).add_(2).relu_(),
    }
    for name, function in moves.items():
        yield Operation(name, function, shape)
    yield Operation("col2im", lambda x: F.fold(x, (4, 4), 2), (8, 9))
    yield Operation("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (8, 3, 3))
    yield Operation("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (2, 4, 4))
    yield Operation("channel_shuffle", lambda x: torch.channel_shuffle(x, 2), (4, 3, 3))
    for dims, modes in ((2, ("bilinear", "nearest", "bicubic")), (3, ("bilinear", "nearest"))):
        turn = torch.eye(dims, dims + 1, dtype=D) * 0.9 + 0.05
        for mode in modes:
            yield Operation(
                f"grid_sample {dims} {mode}",
                lambda x, t=turn, m=mode: F.grid_sample(
                    x,
                    F.affine_grid(t.expand(len(x), *t.shape), list(x.shape), align_corners=False),
                    m,
                    align_corners=False,
                ),
                (3, *[4] * dims),
            )


def _spatial(d: int) -> list[Operation]:
    rows = []

    def add(
        name: str, function: Callable[[Tensor], Tensor], *parameters: Tensor, c: int = 3
    ) -> None:
        rows.append(Operation(f"{name} {d}D", function, (c, *[6] * d), parameters))

    def of(name: str) -> Any:
        return getattr(F, f"{name}{d}d")

    for c, out, groups in ((3, 4, 1), (3, 3, 3), (1, 4, 1), (3, 6, 3)):
        w, b = trained(out, c // groups, *[3] * d), trained(out)
        for stride, padding, dilation in ((1, 1, 1), (2, 0, 1), (1, 2, 2)):
            add(
                f"conv {c} {out} {groups} stride {stride} dilation {dilation}",
                lambda x, w=w, b=b, s=(stride, padding, dilation, groups): of("conv")(x, w, b, *s),
                w,
                b,
                c=c,
            )
    w, b = trained(4, 3, *[1] * d), trained(4)
    add("conv of size 1", lambda x, w=w: of("conv")(x, w), w)
    wt = trained(3, 4, *[3] * d)
    add("transposed conv", lambda x: of("conv_transpose")(x, wt, b, 2, 1, 1), wt, b)
    for kind in ("avg", "max"):
        add(f"{kind}_pool", lambda x, k=kind: of(f"{k}_pool")(x, 2))
        add(f"{kind}_pool overlapping", lambda x, k=kind: of(f"{k}_pool")(x, 3, 2, 1))
        for size in (1, 4):
            add(f"adaptive {kind} {size}", lambda x, k=kind, s=size: of(f"adaptive_{k}_pool")(x, s))
    add("max_unpool", lambda x: of("max_unpool")(*of("max_pool")(x, 2, return_indices=True), 2))
    if d < 3:
        add("lp_pool", lambda x: of("lp_pool")(x.abs() + 1, 2.0, 2))
    smooth = {1: ("linear",), 2: ("bilinear", "bicubic"), 3: ("trilinear",)}[d]
    for mode in ("nearest", "nearest-exact", "area", *smooth):
        for size in (9, 4):
            add(f"interpolate {mode} {size}", lambda x, m=mode, s=size: F.interpolate(x, s, mode=m))
    for mode in ("constant", "reflect", "replicate", "circular"):
        add(f"pad {mode}", lambda x, m=mode: F.pad(x, [1, 2] * d, mode=m))
    return rows
