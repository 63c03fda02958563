"""From a network's output to one number per case.

A single logit, a pair of softmax logits and K classes (one against the rest) all become the log
odds of the positive class, so a pair is never ranked by one of its logits alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


def positive_logit(output: Tensor, positive: int = 1) -> Tensor:
    """Return the log odds of the positive class.

    Args:
        output: logits `(N, K)` or `(N,)`; axes of length 1 may follow. K = 1: the logit
            itself; K >= 2: softmax logits, z_k - log sum over the others of exp z.
        positive: index of the positive class where K >= 2.

    Returns:
        `(N,)` in float64, detached.

    Raises:
        ValueError: for another shape or an index that is not a class.

    Examples:
        >>> positive_logit(torch.tensor([[0.5, 2.0]])).tolist()
        [1.5]
    """
    logits = without_ones(output.detach()).to(torch.float64)
    if logits.ndim == 1:
        return logits
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise ValueError(
            f"Got an output of shape {tuple(output.shape)}, expected logits (N, K): "
            "one vector per case."
        )
    classes = logits.shape[1]
    if classes == 1:
        return logits[:, 0]
    if not 0 <= positive < classes:
        raise ValueError(f"Got positive={positive}, expected an index below {classes}.")
    others = [k for k in range(classes) if k != positive]
    return logits[:, positive] - torch.logsumexp(logits[:, others], dim=1)


def binary_label(label: Tensor, positive: int = 1) -> Tensor:
    """Return 1 where the label is the positive class, else 0.

    Args:
        label: class indices `(N,)` or `(N, 1)`, or one-hot `(N, K)`; axes of length 1 may
            follow.
        positive: index of the positive class.

    Returns:
        `(N,)` of int64.

    Raises:
        ValueError: for another shape, or a value that is not a whole number.
    """
    label = without_ones(label)
    if label.ndim == 2 and label.shape[1] > 1:
        return (label.detach().argmax(dim=1) == positive).to(torch.int64)
    if label.ndim not in (1, 2):
        raise ValueError(
            f"Got labels of shape {tuple(label.shape)}, expected (N,), (N, 1) or one-hot (N, K)."
        )
    flat = label.detach().reshape(-1).to(torch.float64)
    if not torch.equal(flat, flat.round()):
        raise ValueError("Got a label that is not a whole number, expected class indices.")
    return (flat == positive).to(torch.int64)


def without_ones(tensor: Tensor) -> Tensor:
    """Drop axes of length 1 after the second, as a convolutional head leaves them.

    Examples:
        >>> without_ones(torch.zeros(1, 3, 1, 1)).shape
        torch.Size([1, 3])
    """
    return tensor.flatten(1) if tensor.ndim > 2 and tensor.shape[2:].numel() == 1 else tensor
