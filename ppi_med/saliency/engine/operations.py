"""Names of torch operations, and which of them are linear in the signal."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_ALIASES = {
    "truediv": "div",
    "divide": "div",
    "true_divide": "div",
    "rtruediv": "reciprocal",
    "rdiv": "reciprocal",
    "multiply": "mul",
    "rmul": "mul",
    "subtract": "sub",
    "radd": "add",
    "mm": "matmul",
    "mv": "matmul",
    "dot": "matmul",
    "inner": "matmul",
    "rmatmul": "matmul",
    "concat": "cat",
    "concatenate": "cat",
    "clip": "clamp",
    "log_sigmoid": "logsigmoid",
    "_threshold": "threshold",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "special_erf": "erf",
}


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# Queries of a tensor whose results are not tensors.
PASSIVE = words(
    """
    get:shape get:dtype get:device get:ndim get:layout get:requires_grad get:is_leaf get:is_cuda
    get:is_sparse get:is_quantized get:is_mkldnn get:is_meta get:is_cpu get:names get:itemsize
    get:grad_fn get:_version get:output_nr size dim ndimension numel nelement stride
    storage_offset element_size is_contiguous is_floating_point is_complex is_signed data_ptr
    get_device len bool int item tolist format repr dim_order is_same_size is_inference
    register_hook retain_grad
    """
)
# Autograd's derivative is the rule for all of these: they are linear, or select values.
STRUCTURAL = words(
    """
    alias as_strided broadcast_to chunk clone contiguous diagonal expand expand_as flatten flip
    fliplr flipud gather get:H get:T get:mH get:mT get:real real getitem index_select
    masked_select movedim moveaxis narrow permute ravel reshape reshape_as repeat
    repeat_interleave roll rot90 select split split_with_sizes squeeze stack swapaxes swapdims t
    take take_along_dim tensor_split tile to type type_as float double half bfloat16 cpu cuda
    transpose unbind unflatten unfold unsqueeze unsafe_chunk unsafe_split view view_as hsplit
    vsplit dsplit requires_grad as_subclass pin_memory atleast_1d atleast_2d atleast_3d
    channel_shuffle native_channel_shuffle pixel_shuffle pixel_unshuffle pad interpolate upsample
    upsample_nearest upsample_bilinear dropout dropout1d dropout2d dropout3d alpha_dropout
    feature_alpha_dropout feature_dropout neg negative positive cat hstack vstack dstack
    column_stack row_stack adjoint diag diag_embed diagflat block_diag sum_to_size resolve_conj
    resolve_neg to_dense share_memory get:imag imag conj conj_physical view_as_real
    view_as_complex constant_pad_nd
    slice_scatter select_scatter diagonal_scatter as_strided_scatter narrow_copy squeeze_copy
    unsqueeze_copy permute_copy transpose_copy view_copy expand_copy slice_copy select_copy
    """
)
LINEAR = words(
    """
    add sub rsub sum mean nansum nanmean cumsum diff convolution conv_tbc avg_pool1d avg_pool2d
    avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d max_pool2d
    max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
    adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d
    fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices max_unpool1d
    max_unpool2d max_unpool3d relu leaky_relu prelu rrelu hardshrink abs absolute max min amax
    amin maximum minimum fmax fmin topk sort median kthvalue where masked_fill fold im2col col2im
    setitem copy zero fill masked_scatter scatter scatter_add index_add index_copy index_fill
    index_put put fill_diagonal tril triu trace msort rad2deg deg2rad nan_to_num trapezoid trapz
    cumulative_trapezoid affine_grid complex fft_fft fft_fft2 fft_fftn fft_ifft fft_ifft2
    fft_ifftn fft_rfft fft_rfft2 fft_rfftn fft_irfft fft_irfft2 fft_irfftn fft_hfft fft_ihfft
    fft_fftshift fft_ifftshift
    """
)
# If every operand that depends on the image is a gate, the result is a gate too.
GATE_KEEPING = STRUCTURAL | {"add", "sub", "rsub", "mul", "div", "mean", "sum", "masked_fill"}
# Only the first operand of these gives values.
FIRST_ONLY = frozenset({"expand_as", "view_as", "reshape_as", "type_as", "to", "type"})
# Operands of these that do not depend on the image are constants added to the signal.
ADDITIVE = words("add sub rsub cat hstack vstack stack where maximum minimum")
# The third operand of these, the bias, is added.
BIASED = words(
    """
    linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    """
)
# The first operand of these is added to a product of the others.
SUM_OF_PRODUCT = words("addmm addmv addr baddbmm addbmm addcmul addcdiv")

_IN_PLACE_OPERATORS = words("__iadd__ __isub__ __imul__ __itruediv__ __idiv__ __ipow__")


@lru_cache(maxsize=4096)
def operation_name(function: Callable[..., Any]) -> str:
    """Return one name for all forms: `torch.add`, `Tensor.__iadd__`, `x.add_` -> add.

    Attribute access becomes `get:NAME`; in-place methods keep only their plain name (see
    `changes_first_operand`).
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if name in {"__get__", "__set__"}:
        owner = getattr(function, "__self__", None)
        return f"{name[2:5]}:{getattr(owner, '__name__', 'unknown')}"
    if name in _IN_PLACE_OPERATORS:
        name = name[3:-2]
    elif name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
    elif name.endswith("_"):
        name = name[:-1]
    return _ALIASES.get(name, name)


def changes_first_operand(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Say whether a call changes its first argument: `relu_`, `x += y`, `inplace=True`."""
    if _is_in_place(function):
        return True
    position = _inplace_position(function)
    if position is None:
        return False
    return bool(args[position] if position < len(args) else kwargs.get("inplace", False))


@lru_cache(maxsize=4096)
def _is_in_place(function: Callable[..., Any]) -> bool:
    name = str(getattr(function, "__name__", ""))
    if name.startswith("__") and name.endswith("__"):
        return name in _IN_PLACE_OPERATORS
    return name.endswith("_") and name != "requires_grad_"


@lru_cache(maxsize=4096)
def _inplace_position(function: Callable[..., Any]) -> int | None:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C: no such argument
        return None
    return names.index("inplace") if "inplace" in names else None
