"""Softmax attention against its recursion: the attention is a gate on the values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.saliency import WBP, UnsupportedOperationError
from tests.saliency import recursion as r
from tests.saliency import recursion_norms as norms
from tests.saliency.cases import assert_close

N, L, E, HEADS = 2, 5, 8, 2


def causal_mask() -> Tensor:
    return torch.full((L, L), -math.inf).double().triu(1)


def bool_mask() -> Tensor:
    """True: may not be attended (nn.MultiheadAttention's convention)."""
    mask = torch.zeros(L, L, dtype=torch.bool)
    mask[0, 3] = mask[2, 0] = mask[4, 1] = True
    return mask


def padding_mask() -> Tensor:
    mask = torch.zeros(N, L, dtype=torch.bool)
    mask[0, 4] = mask[1, 2] = True
    return mask


def minus_infinity(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).double().masked_fill(mask, -math.inf)


def everywhere(mask: Tensor) -> Tensor:
    return mask.expand(N, HEADS, L, L)


def randomised(module: nn.Module) -> Any:
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.4)
    return module.double()


def oracle(m: nn.MultiheadAttention, mask: Tensor | None) -> norms.Attention:
    weights, biases = m.in_proj_weight.split(E), m.in_proj_bias.split(E)
    out = (m.out_proj.weight, m.out_proj.bias)
    return norms.Attention(list(zip(weights, biases, strict=True)), out, HEADS, mask)


class SelfAttention(nn.Module):
    def __init__(self, batch_first: bool, call: dict[str, Any]) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(E, HEADS, batch_first=batch_first)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.attention.batch_first else x.transpose(0, 1)
        y, weights = self.attention(x, x, x, **self.call)
        assert (weights is not None) == self.call.get("need_weights", True)
        return y if self.attention.batch_first else y.transpose(0, 1)


MASKS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[], Tensor | None]]] = {
    "none": (dict, lambda: None),
    "bool": (lambda: {"attn_mask": bool_mask()}, lambda: everywhere(minus_infinity(bool_mask()))),
    "float": (
        lambda: {"attn_mask": torch.linspace(-1, 1, L * L).view(L, L).double()},
        lambda: everywhere(torch.linspace(-1, 1, L * L).view(L, L).double()),
    ),
    "padding": (
        lambda: {"key_padding_mask": padding_mask()},
        lambda: everywhere(minus_infinity(padding_mask())[:, None, None]),
    ),
    "both": (
        lambda: {"key_padding_mask": padding_mask(), "attn_mask": bool_mask()},
        lambda: everywhere(
            minus_infinity(padding_mask())[:, None, None] + minus_infinity(bool_mask())
        ),
    ),
    "causal": (
        lambda: {"attn_mask": causal_mask(), "is_causal": True},
        lambda: everywhere(causal_mask()),
    ),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_multi_head_attention(
    batch_first: bool, need_weights: bool, mask: str, training: bool
) -> None:
    torch.manual_seed(0)
    call, added = MASKS[mask][0](), MASKS[mask][1]()
    module = randomised(SelfAttention(batch_first, {"need_weights": need_weights, **call}))
    check(module.train(training), [oracle(module.attention, added)])


def check(module: Any, layers: list[r.Layer], shape: tuple[int, ...] = (N, L, E)) -> None:
    image = torch.randn(shape).double()
    readout = torch.randn(r.Chain(*layers).forward(image).shape).double()
    recording = WBP().record(module, image)
    assert_close(recording.output, r.Chain(*layers).forward(image))
    got = recording.saliency(lambda output: (output * readout).flatten(1).sum(1))
    assert_close(got, r.relevance(layers, image, lambda _: readout))


class Projected(nn.Module):
    """q, k, v by one linear layer, attention by a given function on ``(N, heads, L, d)``."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.project, self.out, self.attend = nn.Linear(E, 3 * E), nn.Linear(E, E), attend

    def forward(self, x: Tensor) -> Tensor:
        parts = self.project(x).unflatten(2, (3, HEADS, E // HEADS)).permute(2, 0, 3, 1, 4)
        return self.out(self.attend(*parts.unbind(0)).transpose(1, 2).flatten(2))

    def layers(self, mask: Tensor | None = None) -> list[r.Layer]:
        weights, biases = self.project.weight.split(E), self.project.bias.split(E)
        out = (self.out.weight, self.out.bias)
        return [norms.Attention(list(zip(weights, biases, strict=True)), out, HEADS, mask)]


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(E // HEADS), dim=-1) @ v


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (torch.einsum("bhqd,bhkd->bhqk", q, k) * (E // HEADS) ** -0.5).softmax(dim=-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    logits = torch.matmul(q, k.mT).div(math.sqrt(E // HEADS))
    exponents = torch.exp(logits - logits.amax(-1, keepdim=True))
    return torch.bmm(
        (exponents / exponents.sum(-1, keepdim=True)).flatten(0, 1), v.flatten(0, 1)
    ).view_as(v)


@pytest.mark.parametrize(
    "attend", [F.scaled_dot_product_attention, written_out, by_einsum, by_hand]
)
def test_forms_of_attention(attend: Any) -> None:
    torch.manual_seed(1)
    module = randomised(Projected(attend))
    check(module, module.layers())


SDPA: dict[str, tuple[dict[str, Any], Tensor | None]] = {
    "causal": ({"is_causal": True}, causal_mask()),
    "bool mask": ({"attn_mask": ~bool_mask()}, minus_infinity(bool_mask())),
    "float mask": ({"attn_mask": causal_mask() / 2}, causal_mask() / 2),
}


@pytest.mark.parametrize("name", SDPA)
def test_scaled_dot_product_attention(name: str) -> None:
    torch.manual_seed(2)
    options, mask = SDPA[name]
    attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)  # noqa: E731
    module = randomised(Projected(attend))
    check(module, module.layers(everywhere(mask)))


def test_scale() -> None:
    torch.manual_seed(2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q * 3, k, value=v, scale=1 / (3 * math.sqrt(4)))

    module = randomised(Projected(attend))
    check(module, module.layers())


def test_rows_that_attend_nothing_are_zero() -> None:
    torch.manual_seed(3)
    mask = torch.ones(L, L, dtype=torch.bool)
    mask[2] = False
    x = torch.randn(N, HEADS, L, 4).double()

    def network(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    s = WBP()(network, x, lambda y: y[:, :, 2].flatten(1).sum(1))
    assert s.abs().max() == 0
    assert WBP()(network, x, lambda y: y.flatten(1).sum(1)).isfinite().all()


@pytest.mark.parametrize("key_heads", [1, 2])
def test_grouped_queries(key_heads: int) -> None:
    torch.manual_seed(4)
    x = torch.randn(N, 4, L, 4).double()

    def grouped(x: Tensor) -> Tensor:
        key = x[:, :key_heads]
        return F.scaled_dot_product_attention(x, key, key * 2, enable_gqa=True)

    def repeated(x: Tensor) -> Tensor:
        key = x[:, :key_heads].repeat_interleave(4 // key_heads, 1)
        return written_out(x, key, key * 2)

    target = lambda y: (y * torch.arange(4).view(1, 4, 1, 1)).flatten(1).sum(1)  # noqa: E731
    assert_close(WBP()(grouped, x, target), WBP()(repeated, x, target))


def test_dropout_of_the_attention() -> None:
    """The same mask is drawn as without a recording, and the map has it too."""
    torch.manual_seed(5)
    q = torch.randn(N, HEADS, L, 4).double()

    def network(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    torch.manual_seed(6)
    plain = network(q)
    torch.manual_seed(6)
    recording = WBP().record(network, q)
    assert_close(recording.output, plain)
    s = recording.saliency(lambda y: y.flatten(1).sum(1))
    assert_close(s.flatten(1).sum(1), plain.flatten(1).sum(1))


def test_attention_over_constants_has_no_rule() -> None:
    keys = torch.randn(1, 1, 3, 4)

    def network(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, keys.expand(2, 1, 3, 4), keys.expand(2, 1, 3, 4))

    with pytest.raises(UnsupportedOperationError, match="scaled_dot_product_attention"):
        WBP()(network, torch.randn(2, 1, 3, 4), lambda y: y.flatten(1).sum(1))


def encoder_layers(m: nn.TransformerEncoderLayer) -> list[r.Layer]:
    from tests.saliency.test_normalisation_rules import layer_norm

    feed = r.Chain(r.Linear(m.linear1), r.ReLU(), r.Linear(m.linear2))
    attention = oracle(m.self_attn, None)
    if m.norm_first:
        return [
            r.Sum(r.Chain(), r.Chain(*layer_norm(m.norm1), attention)),
            r.Sum(r.Chain(), r.Chain(*layer_norm(m.norm2), feed)),
        ]
    return [
        r.Sum(r.Chain(), attention),
        *layer_norm(m.norm1),
        r.Sum(r.Chain(), feed),
        *layer_norm(m.norm2),
    ]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder_layer(norm_first: bool, training: bool) -> None:
    """In evaluation torch has a fused path without operations to record; it must not be taken."""
    torch.manual_seed(7)
    layer = nn.TransformerEncoderLayer(
        E, HEADS, 12, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    module = randomised(layer).train(training)
    check(module, encoder_layers(module))


def test_transformer_encoder_in_inference() -> None:
    torch.manual_seed(8)
    layer = nn.TransformerEncoderLayer(E, HEADS, 12, batch_first=True)
    module = randomised(nn.TransformerEncoder(layer, 2)).eval()
    image = torch.randn(N, L, E).double()
    layers = [step for one in module.layers for step in encoder_layers(one)]
    with torch.inference_mode():
        recorded = WBP()(module, image, lambda y: y.flatten(1).sum(1))
    assert_close(recorded, r.relevance(layers, image, torch.ones_like))
    with torch.no_grad():
        assert_close(WBP().record(module, image).output, module(image))


@pytest.mark.parametrize("flash", [False, True])
def test_attention_of_monai(flash: bool) -> None:
    from monai.networks.blocks import SABlock

    torch.manual_seed(9)
    module = randomised(SABlock(E, HEADS, use_flash_attention=flash, qkv_bias=True)).eval()
    weights, biases = module.qkv.weight.split(E), module.qkv.bias.split(E)
    out = (module.out_proj.weight, module.out_proj.bias)
    check(module, [norms.Attention(list(zip(weights, biases, strict=True)), out, HEADS)])
