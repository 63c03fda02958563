"""Softmax attention: its weights are gates on the values they average."""

from __future__ import annotations

import math
import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.saliency.engine.call import Call
from ppi_med.saliency.engine.primitives import Relevance
from ppi_med.saliency.engine.roles import role_of


def scaled_dot_product_attention(call: Call) -> Any:
    """softmax(q k^T / sqrt(d)) v, with the attention as a gate on v.

    The forward is torch's own, fused if possible; the attention itself is computed only for a map.
    With dropout it is written out, because the rule needs the same mask.
    """
    names = ("query", "key", "value")
    query, key, value = (call.argument(i, name) for i, name in enumerate(names))
    mask, dropout = call.argument(3, "attn_mask"), call.argument(4, "dropout_p", 0.0)
    causal, scale = call.argument(5, "is_causal", False), call.kwargs.get("scale")
    if role_of(value) is None:
        return call.refuse(call.run())
    if dropout == 0.0:
        rule = _attention_rule(causal, scale)
        return call.detour(call.run(), rule, value, query, key, mask)
    rows = query.shape[-3] if query.ndim > 3 and call.kwargs.get("enable_gqa") else None
    if rows is not None:
        key, value = (t.repeat_interleave(rows // t.shape[-3], -3) for t in (key, value))
    weights = F.dropout(attention_weights(query, key, mask, causal, scale), dropout)
    return call.gate(weights) @ value


def attention_weights(
    query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    """Return softmax(q k^T * scale + mask), `(..., queries, keys)`; rows all masked are 0."""
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query * scale) @ key.transpose(-2, -1)
    if causal:
        allowed = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~allowed, -math.inf)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    if not causal and mask is None:
        return logits.softmax(-1)
    empty = (logits == -math.inf).all(-1, keepdim=True)
    return logits.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


def _attention_rule(causal: bool, scale: float | None) -> Relevance:
    def relevance(
        grad: Tensor, value: Tensor, query: Tensor, key: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        repeats = 1
        if key.ndim > 2 and query.shape[-3] != key.shape[-3] > 1:  # grouped queries
            repeats = query.shape[-3] // key.shape[-3]
            key = key.repeat_interleave(repeats, -3)
        weights = attention_weights(query, key, mask, causal, scale)
        passed = weights.to(grad.dtype).transpose(-2, -1) @ grad
        if repeats > 1:
            passed = passed.unflatten(-3, (-1, repeats)).sum(-3)
        passed = passed.sum_to_size(value.shape)
        return (passed, None, None) if mask is None else (passed, None, None, None)

    return relevance


def multi_head_attention(call: Call) -> Any:
    """Run the body of `F.multi_head_attention_forward` operation by operation under the rules.

    Torch dispatches this function as a whole. A copy of it without that check lets the operations
    inside reach the engine; the original is unchanged.
    """
    original: Any = call.function
    namespace = {**original.__globals__, "has_torch_function": lambda *_: False}
    opened = types.FunctionType(
        original.__code__, namespace, original.__name__, original.__defaults__
    )
    opened.__kwdefaults__ = original.__kwdefaults__
    with call.forward:
        return opened(*call.args, **call.kwargs)
