"""The area under the ROC curve as a metric of a MONAI engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite import metrics
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils.enums import CommonKeys
from torch import Tensor

from ppi_med.evaluation.measures import binary_label, positive_logit, without_ones
from ppi_med.evaluation.roc import auc, require_both_classes


class AUC(IgniteMetricHandler):
    """AUC of all cases of an epoch, gathered over processes; an entry of `key_val_metric`.

    It reads logits: a single one, a pair or K classes (one against the rest). MONAI's own
    `ROCAUC` would rank a pair by each of its logits alone, which differs, and returns NaN for a
    missing class, after which no later value counts as better.

    Args:
        positive: index of the positive class, for two or more logits.
        output_transform: engine output -> (logits, labels); default the keys "pred" and "label".

    Raises:
        ValueError: at the end of an epoch with only one class, or if a logit is not finite.

    Examples:
        >>> metric = AUC()
        >>> metric.update((torch.tensor([[0.2], [1.5]]), torch.tensor([0, 1])))
        >>> metric.compute()
        1.0
    """

    def __init__(
        self, positive: int = 1, output_transform: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(
            metric_fn=_AccumulatedAUC(positive),
            output_transform=output_transform or logits_and_labels,
            save_details=False,
        )


class _AccumulatedAUC(CumulativeIterationMetric):
    """Keeps one log odds and one label a case."""

    def __init__(self, positive: int) -> None:
        super().__init__()
        self.positive = positive

    def _compute_tensor(
        self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any
    ) -> Sequence[Tensor]:
        if y is None:
            raise ValueError("Got no labels, expected (logits, labels) from output_transform.")
        return positive_logit(y_pred, self.positive), binary_label(y, self.positive)

    def aggregate(self, *args: Any, **kwargs: Any) -> float:
        buffers = self.get_buffer()  # type: ignore[no-untyped-call]
        logits, labels = (part.cpu().numpy() for part in buffers)
        require_both_classes(labels)
        return float(auc(labels, logits))


def logits_and_labels(output: Any) -> tuple[Tensor, Tensor]:
    """Return an engine's logits `(N, K)` and labels `(N, ...)`, decollated or not.

    Raises:
        KeyError: if the output has no "pred" or "label".
    """
    if isinstance(output, Mapping):
        return output[CommonKeys.PRED], output[CommonKeys.LABEL]
    logits = [torch.as_tensor(one[CommonKeys.PRED]) for one in output]
    labels = [torch.as_tensor(one[CommonKeys.LABEL]) for one in output]
    return torch.stack(logits), torch.stack(labels)


class Accuracy(metrics.Accuracy):
    """Accuracy of all cases of an epoch, gathered over processes; an entry of `key_val_metric`.

    The answer is the highest of K logits, or the sign of a single one (ignite would round it).

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
    """Return the class `(N,)` of logits `(N, K)` or `(N,)`.

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
