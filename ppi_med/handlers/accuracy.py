"""The share of cases whose class is right, as a metric of a MONAI engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from ppi_med.evaluation.scores import without_ones
from ppi_med.handlers.metrics import logits_and_labels


class Accuracy(IgniteMetricHandler):
    """Accuracy of all cases of an epoch, gathered over processes; an entry of ``key_val_metric``.

    The answer is the highest of K logits, or the sign of a single one.

    Args:
        output_transform: engine output -> (logits, labels); default the keys "pred" and "label".

    Examples:
        >>> metric = Accuracy()
        >>> metric.update((torch.tensor([[0.2, 1.0], [1.5, 0.1]]), torch.tensor([1, 1])))
        >>> metric.compute()
        0.5
    """

    def __init__(self, output_transform: Callable[[Any], Any] | None = None) -> None:
        super().__init__(
            metric_fn=_AccumulatedAccuracy(),
            output_transform=output_transform or logits_and_labels,
            save_details=False,
        )


class _AccumulatedAccuracy(CumulativeIterationMetric):
    """Keeps one yes or no a case."""

    def _compute_tensor(
        self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any
    ) -> Sequence[Tensor]:
        if y is None:
            raise ValueError("Got no labels, expected (logits, labels) from output_transform.")
        right = predicted_class(y_pred) == class_of(y)
        return [right.to(torch.float64)]

    def aggregate(self, *args: Any, **kwargs: Any) -> float:
        buffer: Any = self.get_buffer()  # type: ignore[no-untyped-call]
        right = buffer[0] if isinstance(buffer, list | tuple) else buffer
        return float(right.mean())


def predicted_class(output: Tensor) -> Tensor:
    """Return the class ``(N,)`` that logits ``(N, K)`` or ``(N,)`` say.

    Examples:
        >>> predicted_class(torch.tensor([[0.5], [-0.5]])).tolist()
        [1, 0]
    """
    logits = without_ones(output.detach())
    if logits.ndim == 1 or logits.shape[1] == 1:
        return (logits.reshape(-1) > 0).to(torch.int64)
    return logits.argmax(1)


def class_of(label: Tensor) -> Tensor:
    """Return class indices ``(N,)`` of labels ``(N,)``, ``(N, 1)`` or one-hot ``(N, K)``."""
    label = without_ones(label)
    if label.ndim == 2 and label.shape[1] > 1:
        return label.detach().argmax(1)
    return label.detach().reshape(-1).to(torch.int64)
