"""The share of cases whose class is right, as a metric of a MONAI engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite import metrics
from torch import Tensor

from ppi_med.evaluation.scores import without_ones
from ppi_med.handlers.metrics import logits_and_labels


class Accuracy(metrics.Accuracy):
    """Accuracy of all cases of an epoch, gathered over processes; an entry of `key_val_metric`.

    The answer is the highest of K logits, or the sign of a single one, which ignite would round.

    Args:
        output_transform: engine output -> (logits, labels); default the keys "pred" and "label".

    Examples:
        >>> metric = Accuracy()
        >>> metric.update((torch.tensor([[0.2, 1.0], [1.5, 0.1]]), torch.tensor([1, 1])))
        >>> metric.compute()
        0.5
    """

    def __init__(self, output_transform: Callable[[Any], Any] | None = None) -> None:
        super().__init__(output_transform or logits_and_labels)

    def update(self, output: Sequence[Tensor]) -> None:
        """Count the cases of a batch `(logits, labels)` that are right."""
        right = (predicted_class(output[0]) == class_of(output[1])).long()
        super().update((right, torch.ones_like(right)))


def predicted_class(output: Tensor) -> Tensor:
    """Return the class `(N,)` that logits `(N, K)` or `(N,)` say.

    Examples:
        >>> predicted_class(torch.tensor([[0.5], [-0.5]])).tolist()
        [1, 0]
    """
    logits = without_ones(output.detach())
    if logits.ndim == 1 or logits.shape[1] == 1:
        return (logits.reshape(-1) > 0).to(torch.int64)
    return logits.argmax(1)


def class_of(label: Tensor) -> Tensor:
    """Return class indices `(N,)` of labels `(N,)`, `(N, 1)` or one-hot `(N, K)`."""
    label = without_ones(label)
    if label.ndim == 2 and label.shape[1] > 1:
        return label.detach().argmax(1)
    return label.detach().reshape(-1).to(torch.int64)
