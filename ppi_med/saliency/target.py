"""From a network's output and a target to one score per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Target = int | Tensor | Callable[[Any], Tensor]

_LOGIT_KEYS = ("logits", "logit", "pred", "out")


def primary_logits(output: Any) -> Tensor:
    """Return the tensor of logits in a network's output, `(N, K, 1, 1)` as `(N, K)`.

    A tensor is returned itself; a mapping gives its entry `logits`, `logit`, `pred` or `out`; a
    named tuple its field `logits` (torchvision's Inception with its auxiliary head); any other
    tuple or list its first entry.

    Raises:
        TypeError: if no tensor is found.
    """
    if isinstance(output, Tensor):
        return _without_ones(output)
    found: Any = None
    if isinstance(output, Mapping):
        found = next((output[key] for key in _LOGIT_KEYS if key in output), None)
    elif hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, (tuple, list)) and output:
        found = output[0]
    if isinstance(found, Tensor):
        return _without_ones(found)
    raise TypeError(
        f"no logits found in a network output of type {type(output).__name__}: return a tensor "
        f"(N, K), or give the target as a callable on the output"
    )


def _without_ones(logits: Tensor) -> Tensor:
    """Drop spatial axes of length 1, as a convolutional head leaves them."""
    pooled = logits.ndim > 2 and logits.shape[2:].numel() == 1
    return logits.flatten(1) if pooled else logits


def target_scores(output: Any, target: Target) -> Tensor:
    """Select the score that a map explains: one logit per sample.

    Args:
        output: what the network returned; logits `(N, K)`, `(N, 1)` or `(N,)`; axes of
            length 1 may follow.
        target: class index for all samples, a LongTensor `(N,)` of class indices, or a callable
            `output -> (N,)`. With a single sigmoid logit, class 1 is the logit and class 0 its
            negative.

    Returns:
        Scores `(N,)`.

    Raises:
        ValueError: if the shapes do not fit.
        IndexError: if a class index is outside the logits.

    Examples:
        >>> target_scores(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0]))
        tensor([2., 3.])
        >>> target_scores(torch.tensor([[1.0], [3.0]]), 0)
        tensor([-1., -3.])
    """
    if callable(target) and not isinstance(target, Tensor):
        return _checked_scores(target(output))
    logits = primary_logits(output)
    if logits.ndim == 1:
        logits = logits.unsqueeze(1)
    if logits.ndim != 2:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} have no class axis alone; expected (N, K): "
            "give the target as a callable that returns (N,) scores"
        )
    index = _class_index(target, logits)
    if logits.shape[1] == 1:
        sign = (2 * index - 1).to(logits.dtype)
        return logits[:, 0] * sign
    return logits.gather(1, index.unsqueeze(1)).squeeze(1)


def _class_index(target: int | Tensor, logits: Tensor) -> Tensor:
    batch, classes = logits.shape[0], max(logits.shape[1], 2)
    index = torch.as_tensor(target, device=logits.device)
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"target has dtype {index.dtype}, expected integer class indices")
    if index.ndim == 0:
        index = index.expand(batch)
    if index.shape != (batch,):
        raise ValueError(
            f"target has shape {tuple(index.shape)}, expected one class index per sample ({batch},)"
        )
    if bool(((index < 0) | (index >= classes)).any()):
        wrong = index[(index < 0) | (index >= classes)][0].item()
        raise IndexError(f"target class {wrong} is outside the {classes} classes of the output")
    return index.long()


def _checked_scores(scores: Any) -> Tensor:
    if not isinstance(scores, Tensor) or scores.ndim != 1:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"a target callable must return scores of shape (N,), got {got}")
    return scores
