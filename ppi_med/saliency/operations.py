"""Names of torch operations, and which of them are linear in the signal as they stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

_REFLECTED = {
    "rsub": "rsub",
    "rtruediv": "reciprocal_div",
    "rdiv": "reciprocal_div",
    "rpow": "rpow",
}
_ALIASES = {
    "truediv": "div",
    "divide": "div",
    "true_divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "radd": "add",
    "rmul": "mul",
    "rmatmul": "reflected_matmul",
    "concat": "cat",
    "concatenate": "cat",
    "mm": "matmul",
    "mv": "matmul",
    "dot": "matmul",
    "invert": "bitwise_not",
    **_REFLECTED,
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Autograd's derivative is the rule for all of these: they are linear, or select values.
STRUCTURAL = _names(
    """
    alias as_strided broadcast_to chunk clone contiguous diagonal expand expand_as flatten flip
    fliplr flipud gather get:H get:T get:mH get:mT get:real getitem index_select masked_select
    movedim moveaxis narrow permute ravel reshape reshape_as repeat repeat_interleave roll rot90
    select split split_with_sizes squeeze stack swapaxes swapdims t take take_along_dim
    tensor_split tile to type type_as float double half bfloat16 cpu cuda transpose unbind
    unflatten unfold unsqueeze unsafe_chunk unsafe_split view view_as hsplit vsplit dsplit
    requires_grad_ retain_grad register_hook as_subclass pin_memory atleast_1d atleast_2d
    channel_shuffle pixel_shuffle pixel_unshuffle pad interpolate upsample upsample_nearest
    upsample_bilinear dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout
    feature_dropout neg negative positive cat hstack vstack dstack column_stack
    """
)
LINEAR = _names(
    """
    add sub rsub sum mean nansum nanmean cumsum diff lerp conv1d conv2d conv3d convolution
    conv_tbc linear conv_transpose1d conv_transpose2d conv_transpose3d avg_pool1d avg_pool2d
    avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d max_pool2d
    max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
    adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d max_unpool1d
    max_unpool2d max_unpool3d relu leaky_relu prelu rrelu threshold abs absolute max min amax
    amin maximum minimum topk sort median where masked_fill fold im2col col2im setitem copy_
    zero_ fill_ masked_scatter scatter scatter_add index_add index_copy tril triu trace addmm
    addmv baddbmm addbmm
    """
)
# Where every operand that depends on the image is a gate, the result still is one.
GATE_KEEPING = STRUCTURAL | {"add", "sub", "rsub", "mul", "div", "mean", "sum", "masked_fill"}
# Operands of these that do not depend on the image are constants added to the signal.
ADDITIVE = frozenset(
    {"add", "sub", "rsub", "cat", "hstack", "vstack", "stack", "where", "maximum", "minimum"}
)
# The bias or the first operand of these is added.
BIASED = _names(
    """
    conv1d conv2d conv3d linear conv_transpose1d conv_transpose2d conv_transpose3d
    """
)


@lru_cache(maxsize=4096)
def operation_name(function: Callable[..., Any]) -> str:
    """Return one name for all spellings: ``torch.add``, ``Tensor.__iadd__``, ``x.add_`` -> add.

    Attribute access becomes ``get:NAME``; in-place methods keep only their plain name (see
    :func:`is_in_place`).
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if name in {"__get__", "__set__"}:
        owner = getattr(function, "__self__", None)
        return f"{name[2:5]}:{getattr(owner, '__name__', 'unknown')}"
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        if name.startswith("i") and name[1:] in {"add", "sub", "mul", "truediv", "div", "pow"}:
            name = name[1:]
    elif name.endswith("_") and name not in {"copy_", "zero_", "fill_", "requires_grad_"}:
        name = name[:-1]
    return _ALIASES.get(name, name)


@lru_cache(maxsize=4096)
def is_in_place(function: Callable[..., Any]) -> bool:
    """Say whether a torch function changes its first argument (``relu_``, ``x += y``)."""
    name = str(getattr(function, "__name__", ""))
    if name.startswith("__") and name.endswith("__"):
        return name in {"__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__", "__ipow__"}
    return name.endswith("_") and name != "requires_grad_"
