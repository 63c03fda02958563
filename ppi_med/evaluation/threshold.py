"""Sensitivity and specificity, and the choice of the threshold on validation cases.

A case is called positive where its score is at least the threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.checks import Floats, checked, checked_weights, ratio
from ppi_med.evaluation.roc import RocCurve, roc_curve


def sensitivity(
    labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> Floats:
    """Return the share of label 1 that is called positive; NaN where there is no label 1.

    Args:
        labels: ``(n,)``, 0 or 1.
        scores: ``(n,)``.
        threshold: on the scale of the scores.
        weights: ``(..., n)``, how often each case counts; default once.

    Examples:
        >>> float(sensitivity([0, 1, 1], [0.1, 0.5, 0.2], threshold=0.5))
        0.5
    """
    y, s = checked(labels, scores)
    w = checked_weights(weights, y.size)
    return ratio((w * y * (s >= threshold)).sum(axis=-1), (w * y).sum(axis=-1))


def specificity(
    labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> Floats:
    """Return the share of label 0 that is called negative; NaN where there is no label 0.

    Args:
        labels: ``(n,)``, 0 or 1.
        scores: ``(n,)``.
        threshold: on the scale of the scores.
        weights: ``(..., n)``, how often each case counts; default once.

    Examples:
        >>> float(specificity([0, 0, 1], [0.1, 0.5, 0.9], threshold=0.5))
        0.5
    """
    y, s = checked(labels, scores)
    w = checked_weights(weights, y.size)
    return ratio((w * (1 - y) * (s < threshold)).sum(axis=-1), (w * (1 - y)).sum(axis=-1))


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the threshold with the largest sensitivity + specificity - 1 on these cases.

    It lies half-way between two neighbouring scores, so that it does not hang on one case's
    exact value. Of equally good ones the one with the higher sensitivity is taken.

    Args:
        labels: ``(n,)``, 0 or 1, both present; of the validation cases, never of the test.
        scores: ``(n,)``.

    Raises:
        ValueError: where only one class is present.

    Examples:
        >>> youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.7])
        0.4
    """
    curve = roc_curve(labels, scores)
    gain = curve.sensitivity - curve.false_positive_rate
    best = np.flatnonzero(gain >= gain.max() - 1e-12)[-1]
    return _between(curve, int(best))


def threshold_for_sensitivity(labels: ArrayLike, scores: ArrayLike, at_least: float) -> float:
    """Return the highest threshold whose sensitivity on these cases is at least the one asked.

    Args:
        labels: ``(n,)``, 0 or 1, both present; of the validation cases, never of the test.
        scores: ``(n,)``.
        at_least: sensitivity wanted, in (0, 1].

    Raises:
        ValueError: where `at_least` is not in (0, 1] or only one class is present.

    Examples:
        >>> threshold_for_sensitivity([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], at_least=1.0)
        0.15000000000000002
    """
    _require_share(at_least)
    curve = roc_curve(labels, scores)
    first = np.flatnonzero(curve.sensitivity >= at_least - 1e-12)[0]
    return _between(curve, int(first))


def threshold_for_specificity(labels: ArrayLike, scores: ArrayLike, at_least: float) -> float:
    """Return the lowest threshold whose specificity on these cases is at least the one asked.

    Args:
        labels: ``(n,)``, 0 or 1, both present; of the validation cases, never of the test.
        scores: ``(n,)``.
        at_least: specificity wanted, in (0, 1].

    Raises:
        ValueError: where `at_least` is not in (0, 1] or only one class is present.

    Examples:
        >>> threshold_for_specificity([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], at_least=1.0)
        0.35
    """
    _require_share(at_least)
    curve = roc_curve(labels, scores)
    last = np.flatnonzero(1 - curve.false_positive_rate >= at_least - 1e-12)[-1]
    return _between(curve, int(last))


def _require_share(at_least: float) -> None:
    if not 0 < at_least <= 1:
        raise ValueError(f"Got at_least={at_least}, expected a share in (0, 1].")


def _between(curve: RocCurve, point: int) -> float:
    """Return a threshold that calls positive what the curve's point does, off the scores.

    Beyond the outermost scores it is the next number: nothing is known about how far to go.
    """
    upper = float(curve.threshold[point])
    if point == len(curve.threshold) - 1:
        return upper
    lower = float(curve.threshold[point + 1])
    if np.isinf(upper):
        return float(np.nextafter(lower, np.inf))
    middle = (upper + lower) / 2
    return middle if middle > lower else upper
