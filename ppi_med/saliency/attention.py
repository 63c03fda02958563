"""Softmax attention: its weights are gates on the values they average."""

from __future__ import annotations

import math
import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.saliency.engine import Call
from ppi_med.saliency.roles import Role, assign_role


def softmax(call: Call) -> Tensor:
    """``softmax``: a gate where it multiplies; it has no rule where relevance reaches it."""
    weights = call.refuse(call.run())
    assign_role(weights, Role.GATE)
    return weights


def scaled_dot_product_attention(call: Call) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, with the attention as a gate on v.

    Written out rather than fused: the rule needs the attention itself, which fused kernels never
    form.
    """
    query, key, value = call.args[:3]
    mask, dropout = call.argument(3, "attn_mask"), call.argument(4, "dropout_p", 0.0)
    causal, scale = call.argument(5, "is_causal", False), call.kwargs.get("scale")
    if call.kwargs.get("enable_gqa"):
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = (query * scale) @ key.transpose(-2, -1)
    if causal:
        allowed = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~allowed, -math.inf)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    weights = F.dropout(logits.softmax(-1), dropout, training=dropout > 0)
    return call.gate(weights) @ value  # type: ignore[no-any-return]


def multi_head_attention(call: Call) -> Any:
    """``F.multi_head_attention_forward``: run its body operation by operation under the rules.

    Torch answers for this function as a whole. A copy of it that skips this one check lets the
    operations inside reach the engine; the original is not touched.
    """
    original = call.function
    namespace = {**original.__globals__, "has_torch_function": lambda *_: False}
    opened = types.FunctionType(
        original.__code__, namespace, original.__name__, original.__defaults__
    )
    opened.__kwdefaults__ = original.__kwdefaults__
    with call.forward:
        return opened(*call.args, **call.kwargs)
