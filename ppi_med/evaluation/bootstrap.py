"""Intervals by resampling subjects: the eyes and visits of one subject are not independent.

Whole subjects are drawn with replacement; a case then counts as often as its subject was drawn.
All resamples are measured at once, through the weights of :class:`~.metrics.Metric`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.checks import Floats, checked
from ppi_med.evaluation.metrics import Metric

# Resamples measured in one go: 2 million weights are 16 MB.
_WEIGHTS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A measure with its interval.

    Attributes:
        name: of the metric.
        value: on the cases as they are.
        low: lower end, a percentile of the resamples.
        high: upper end.
        level: such as 0.95.
        subjects: number of subjects that were resampled.
        dropped: resamples in which the metric was not defined (one class missing).
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    subjects: int
    dropped: int


@dataclass(frozen=True)
class Difference(Interval):
    """A difference of two methods on the same cases, a minus b, with its interval.

    Attributes:
        p_value: two-sided, from the share of resamples on either side of 0.
    """

    p_value: float


def subject_weights(subjects: ArrayLike, repeats: int, seed: int) -> Iterator[Floats]:
    """Yield ``(some, n)``: how often each case counts in each resample, `repeats` rows in all.

    Args:
        subjects: ``(n,)``, the subject of each case.
        repeats: number of resamples.
        seed: the same seed gives the same resamples.

    Raises:
        ValueError: where `repeats` is not positive or there are fewer than two subjects.
    """
    if repeats < 1:
        raise ValueError(f"Got repeats={repeats}, expected at least one.")
    names, index = np.unique(np.asarray(subjects).astype(str), return_inverse=True)
    if names.size < 2:
        raise ValueError(
            f"Got {names.size} subject, expected at least two: subjects are what is resampled."
        )
    rng = np.random.default_rng(seed)
    step = max(1, _WEIGHTS_AT_ONCE // index.size)
    for start in range(0, repeats, step):
        rows = min(step, repeats - start)
        drawn = rng.integers(names.size, size=(rows, names.size))
        drawn += np.arange(rows)[:, None] * names.size
        counts = np.bincount(drawn.ravel(), minlength=rows * names.size)
        yield counts.reshape(rows, names.size)[:, index].astype(np.float64)


def bootstrap(
    metric: Metric,
    labels: ArrayLike,
    scores: ArrayLike,
    subjects: ArrayLike,
    *,
    repeats: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the metric with a percentile interval over resampled subjects.

    Args:
        metric: such as :data:`ppi_med.evaluation.metrics.AUC`.
        labels: ``(n,)``, 0 or 1.
        scores: ``(n,)``.
        subjects: ``(n,)``, the subject of each case.
        repeats: number of resamples.
        level: share of the resamples inside the interval.
        seed: of the resampling.

    Raises:
        ValueError: where the metric is undefined on the cases or on all resamples, or the input
            is not as above.

    Examples:
        >>> from ppi_med.evaluation.metrics import AUC
        >>> found = bootstrap(AUC, [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], ["a", "b", "c", "d"])
        >>> found.value
        0.75
    """
    _require_level(level)
    y, s = checked(labels, scores)
    groups = _checked_subjects(subjects, y.size)
    value = _defined(metric, y, s)
    draws = np.concatenate([metric(y, s, w) for w in subject_weights(groups, repeats, seed)])
    low, high, kept = _percentiles(metric, draws, level)
    return Interval(
        metric.name, value, low, high, level, np.unique(groups).size, repeats - kept.size
    )


def paired_bootstrap(
    metric: Metric,
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    subjects: ArrayLike,
    *,
    repeats: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return metric(a) - metric(b) on the same cases, both measured on each resample.

    Args:
        metric: such as :data:`ppi_med.evaluation.metrics.AUC`.
        labels: ``(n,)``, 0 or 1.
        scores_a: ``(n,)``, of the one method.
        scores_b: ``(n,)``, of the other, in the same order of cases.
        subjects: ``(n,)``, the subject of each case.
        repeats: number of resamples.
        level: share of the resamples inside the interval.
        seed: of the resampling.

    Raises:
        ValueError: as for :func:`bootstrap`.
    """
    _require_level(level)
    y, a = checked(labels, scores_a)
    _, b = checked(labels, scores_b)
    groups = _checked_subjects(subjects, y.size)
    value = _defined(metric, y, a) - _defined(metric, y, b)
    draws = np.concatenate(
        [metric(y, a, w) - metric(y, b, w) for w in subject_weights(groups, repeats, seed)]
    )
    low, high, kept = _percentiles(metric, draws, level)
    # One more on either side: a p-value of exactly 0 is more than a finite sample can say.
    tail = min((kept <= 0).sum(), (kept >= 0).sum())
    return Difference(
        metric.name,
        value,
        low,
        high,
        level,
        np.unique(groups).size,
        repeats - kept.size,
        p_value=float(min(1.0, 2 * (tail + 1) / (kept.size + 1))),
    )


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"Got level={level}, expected a share between 0 and 1, such as 0.95.")


def _checked_subjects(
    subjects: ArrayLike, n: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.str_]]:
    groups = np.asarray(subjects).astype(str)
    if groups.shape != (n,):
        raise ValueError(f"Got subjects of shape {groups.shape}, expected ({n},): one a case.")
    if (groups == "").any():
        raise ValueError(
            f"{int((groups == '').sum())} of {n} cases name no subject, expected one for each: "
            "unknown subjects would be resampled as if they were one."
        )
    return groups


def _defined(metric: Metric, y: Floats, s: Floats) -> float:
    value = float(metric(y, s))
    if np.isnan(value):
        raise ValueError(
            f"{metric.name} is not defined on these {y.size} cases "
            f"({int(y.sum())} of label 1), expected both classes."
        )
    return value


def _percentiles(metric: Metric, draws: Floats, level: float) -> tuple[float, float, Floats]:
    kept = draws[~np.isnan(draws)]
    if kept.size == 0:
        raise ValueError(f"{metric.name} is not defined on any resample: too few subjects.")
    tail = (1 - level) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return float(low), float(high), kept
