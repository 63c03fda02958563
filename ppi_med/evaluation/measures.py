"""From logits to one number per case; what the measures of maps share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

# From an image batch to an output, from output and target to scores (N,), and the maps' callable.
Network = Callable[[Tensor], Any]
Score = Callable[[Any, Tensor], Tensor]
MapMethod = Callable[[Any, Tensor, Tensor], Tensor]

_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda s: s.sum(1),
    "abs_sum": lambda s: s.abs().sum(1),
    "positive_sum": lambda s: s.clamp(min=0).sum(1),
}
REDUCTIONS = tuple(_REDUCE)


@dataclass(frozen=True)
class Measure:
    """A quantity that knows its name and which way is better.

    Attributes:
        name: as logged, such as `"deletion"`.
        direction: 1 where larger is better, -1 where smaller is.

    Examples:
        >>> Measure("deletion", -1).better(0.1, than=0.2)
        True
    """

    name: str
    direction: Literal[1, -1]

    def better(self, value: float, than: float) -> bool:
        """Say whether `value` is strictly better; NaN is never better, any number beats NaN."""
        if value != value:
            return False
        return than != than or self.direction * (value - than) > 0


def pixel_values(maps: Tensor, reduce: str = "sum") -> Tensor:
    """Return one value per pixel, `(N, *spatial)`, of maps `(N, C, *spatial)`.

    Args:
        maps: signed maps.
        reduce: `"sum"` over channels (default), `"abs_sum"` or `"positive_sum"`.

    Raises:
        ValueError: for another name or shape.

    Examples:
        >>> pixel_values(torch.tensor([[[1.0, -1.0]], [[2.0, 0.0]]]).transpose(0, 1)).tolist()
        [[3.0, -1.0]]
    """
    if reduce not in _REDUCE:
        raise ValueError(f"reduce is '{reduce}', expected one of {REDUCTIONS}")
    if maps.ndim < 3:
        raise ValueError(f"maps have shape {tuple(maps.shape)}, expected (N, C, *spatial)")
    return _REDUCE[reduce](maps.detach())


def ranks(values: Tensor) -> Tensor:
    """Return each pixel's rank, 0 for the highest value; equal values in the order of pixels.

    Args:
        values: `(N, *spatial)`.

    Returns:
        Places of the same shape.

    Raises:
        ValueError: if a value is NaN, which has no place.
    """
    if bool(values.isnan().any()):
        raise ValueError("a map has NaN values, expected numbers: they have no place in an order")
    flat = values.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order)
    place.scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))
    return place.view(values.shape)


def class_logit(output: Any, target: Tensor) -> Tensor:
    """Return the target's logit; for a single logit its sign is the class."""
    logits = _logits(output)
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * target - 1).to(logits.dtype)
    return logits.gather(1, target.long().unsqueeze(1))[:, 0]


def class_probability(output: Any, target: Tensor) -> Tensor:
    """Return the target's probability, by softmax, or by the sigmoid of a single logit."""
    logits = _logits(output)
    if logits.shape[1] == 1:
        return torch.sigmoid(class_logit(logits, target))
    return class_logit(logits.softmax(1), target)


def _logits(output: Any) -> Tensor:
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.ndim not in (1, 2):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the network returned {got}, expected logits (N, K): give a score")
    return logits.unsqueeze(1) if logits.ndim == 1 else logits


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
