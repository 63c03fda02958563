"""The probability of a volume as the weighted mean of its slices' probabilities, as a logit."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.jit import is_scripting  # type: ignore[attr-defined]


def mixture_logit(slice_logits: Tensor, log_weights: Tensor) -> Tensor:
    r"""Return the logit of a weighted mean of probabilities (Appendix E.2).

    With p = sigmoid(z) and weights w that sum to 1, `logit(sum_i w_i p_i)` is

    .. math:: \log \sum_i w_i p_i - \log \sum_i w_i (1 - p_i)

    taken in log-space: finite for every finite input, even if p rounds to 0 or 1.

    The function can be overridden like torch's own: a `TorchFunctionMode` gets it as one call. A
    saliency map explains its attribute `saliency_surrogate` instead, `sum_i w_i z_i` with the
    weights as constant gates.

    Args:
        slice_logits: z, `(N, S)`.
        log_weights: log w, `(N, S)`.

    Returns:
        The logits `(N,)`.

    Examples:
        >>> half = torch.tensor([[0.5, 0.5]]).log()
        >>> mixture_logit(torch.tensor([[2.0, 2.0]]), half)
        tensor([2.])
        >>> mixture_logit(torch.tensor([[1000.0, -1000.0]]), half)
        tensor([0.])
    """
    # Nested, not joined by "and": TorchScript leaves out only a block behind this bare condition.
    if not is_scripting():  # noqa: SIM102
        if torch.overrides.has_torch_function((slice_logits, log_weights)):
            overridden: Tensor = torch.overrides.handle_torch_function(
                mixture_logit, (slice_logits, log_weights), slice_logits, log_weights
            )
            return overridden
    present = torch.logsumexp(log_weights + F.logsigmoid(slice_logits), dim=-1)
    absent = torch.logsumexp(log_weights + F.logsigmoid(-slice_logits), dim=-1)
    return present - absent


def _gated_sum(slice_logits: Tensor, log_weights: Tensor) -> Tensor:
    """Return `sum_i w_i z_i`, `(N,)`.

    The weights are not detached: for a map they are gates by the rule of products, but a loss on
    the map trains them.
    """
    return (log_weights.exp() * slice_logits).sum(-1)


cast(Any, mixture_logit).saliency_surrogate = _gated_sum
