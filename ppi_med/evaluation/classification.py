"""Everything that is measured of a binary classifier, gathered.

:func:`summarise` is what a bundle's evaluation writes: the measures of one set of predictions,
each with its interval over subjects, at a threshold that was chosen elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ppi_med.evaluation.bootstrap import Difference, Interval, bootstrap, paired_bootstrap
from ppi_med.evaluation.calibration import Reliability, brier, calibration_error, reliability
from ppi_med.evaluation.delong import DeLong, auc_variance, delong_test
from ppi_med.evaluation.metrics import (
    AUC,
    BRIER,
    CALIBRATION_ERROR,
    Metric,
    accuracy_at,
    sensitivity_at,
    specificity_at,
)
from ppi_med.evaluation.predictions import Predictions
from ppi_med.evaluation.roc import RocCurve, auc, roc_curve
from ppi_med.evaluation.threshold import (
    sensitivity,
    specificity,
    threshold_for_sensitivity,
    threshold_for_specificity,
    youden_threshold,
)

__all__ = [
    "AUC",
    "BRIER",
    "CALIBRATION_ERROR",
    "DeLong",
    "Difference",
    "Interval",
    "Metric",
    "Predictions",
    "Reliability",
    "RocCurve",
    "accuracy_at",
    "auc",
    "auc_variance",
    "bootstrap",
    "brier",
    "calibration_error",
    "compare",
    "delong_test",
    "paired_bootstrap",
    "reliability",
    "roc_curve",
    "sensitivity",
    "sensitivity_at",
    "specificity",
    "specificity_at",
    "summarise",
    "threshold_for_sensitivity",
    "threshold_for_specificity",
    "youden_threshold",
]


def summarise(
    predictions: Predictions,
    threshold: float = 0.5,
    *,
    repeats: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return each measure by its name, with its interval over subjects.

    Args:
        predictions: of one part of the data; scores are probabilities.
        threshold: for sensitivity, specificity and accuracy; chosen on validation cases.
        repeats: number of resamples.
        level: of the intervals.
        seed: of the resampling.

    Raises:
        ValueError: where one class is missing or a case names no subject.

    Examples:
        >>> rows = [
        ...     {"volume_id": f"v{i}", "subject": f"s{i}", "site": "A", "label": i % 2,
        ...      "score": 0.3 + 0.4 * (i % 2)}
        ...     for i in range(8)
        ... ]
        >>> summarise(Predictions.from_rows(rows), repeats=50)["auc"].value
        1.0
    """
    metrics = (
        AUC,
        sensitivity_at(threshold),
        specificity_at(threshold),
        accuracy_at(threshold),
        BRIER,
        CALIBRATION_ERROR,
    )
    return {
        metric.name: bootstrap(
            metric,
            predictions.label,
            predictions.score,
            predictions.subject,
            repeats=repeats,
            level=level,
            seed=seed,
        )
        for metric in metrics
    }


def compare(a: Predictions, b: Predictions, metric: Metric = AUC, **options: Any) -> Difference:
    """Return metric(a) - metric(b), paired by case, with its interval over subjects.

    Args:
        a: predictions of the one method.
        b: predictions of the other, on the same cases.
        metric: what is compared.
        options: `repeats`, `level` and `seed` of :func:`paired_bootstrap`.

    Raises:
        ValueError: where the two are not about the same cases with the same labels.
    """
    same = a.volume_id.shape == b.volume_id.shape and bool((a.volume_id == b.volume_id).all())
    if not same:
        only = sorted(set(a.volume_id.tolist()) ^ set(b.volume_id.tolist()))
        raise ValueError(
            f"{len(only)} cases are in only one of the two predictions (such as {only[:3]}), "
            "expected the same cases in both."
        )
    if not np.array_equal(a.label, b.label):
        raise ValueError("The two predictions disagree about labels, expected the same ones.")
    return paired_bootstrap(metric, a.label, a.score, b.score, a.subject, **options)
