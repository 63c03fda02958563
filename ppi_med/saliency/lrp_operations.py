"""Which operations copy relevance, and which let it pass unchanged."""

from __future__ import annotations

from ppi_med.saliency.operations import STRUCTURAL


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Values are moved, selected or repeated: autograd's derivative is the rule for R too.
COPYING = (
    STRUCTURAL
    - _names(
        """
        interpolate upsample upsample_nearest upsample_bilinear dropout dropout1d dropout2d
        dropout3d alpha_dropout feature_alpha_dropout feature_dropout neg negative positive real
        get:real get:imag imag conj conj_physical view_as_real view_as_complex
        """
    )
) | _names(
    """
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
    adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d
    fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices max_unpool1d
    max_unpool2d max_unpool3d max min amax amin maximum minimum fmax fmin topk sort median kthvalue
    where masked_fill im2col setitem copy zero fill masked_scatter scatter index_copy index_fill
    index_put put fill_diagonal tril triu msort detach
    """
)
# Elementwise functions of one operand: R passes unchanged.
ACTIVATIONS = _names(
    """
    relu leaky_relu prelu rrelu hardshrink softshrink tanhshrink silu gelu mish hardswish elu celu
    selu tanh softsign softplus logsigmoid relu6 hardtanh threshold clamp clamp_min clamp_max
    sigmoid hardsigmoid abs absolute neg negative positive
    """
)
# Activations whose result is a gate where it multiplies a signal.
GATING = frozenset({"sigmoid", "hardsigmoid"})
# A factor that is a gate or a constant: R passes unchanged to what it multiplies.
SCALINGS = frozenset({"mul", "div"})
