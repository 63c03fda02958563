"""Intervals by resampling whole subjects: the eyes and visits of one subject are not independent.

`interval` is the only one; every table uses it. Subjects are drawn with replacement, and a
case counts as often as its subject was drawn. Weights measure all resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.checks import Floats, checked, ratio
from ppi_med.evaluation.metrics import Metric

# Resamples measured at once: 2 million weights are 16 MB.
_WEIGHTS_AT_ONCE = 2_000_000
NAN = float("nan")

Measured = Callable[[Floats | None], Floats]
"""Weights `(rows, n)` of the cases -> a value for each row; None: each case counts once."""


@dataclass(frozen=True)
class Interval:
    """A mean measure, or difference, with its percentile interval.

    Attributes:
        name: name of the measure.
        value: value on the original cases.
        low: lower end; NaN where fewer than two subjects can be drawn.
        high: upper end.
        level: such as 0.95.
        subjects: number of subjects that were resampled.
        dropped: resamples in which the measure was not defined (one class missing).
        p_value: p-value of a difference, two-sided, from the share of resamples on either side of
            0.
    """

    name: str
    value: float
    low: float
    high: float
    level: float = 0.95
    subjects: int = 0
    dropped: int = 0
    p_value: float = NAN

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside of the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Part:
    """One term of the mean: a measure on the cases of one training.

    Attributes:
        units: the subject of each case `(n,)`; subjects are drawn.
        measure: the measure, or the difference of two.
        stratum: parts of one stratum share the drawn subjects; each stratum, such as a site or a
            fold, is drawn separately.
        seed: seed of the training, if seeds are drawn too.
    """

    units: ArrayLike
    measure: Measured
    stratum: str = ""
    seed: int = 0

    def minus(self, other: Part) -> Part:
        """Return the paired difference: both are measured on the same resamples."""
        return Part(
            self.units, lambda w: self.measure(w) - other.measure(w), self.stratum, self.seed
        )


def of_metric(
    metric: Metric,
    labels: ArrayLike,
    scores: ArrayLike,
    units: ArrayLike,
    stratum: str = "",
    seed: int = 0,
) -> Part:
    """Return a metric of labels `(n,)` and scores `(n,)` as a part."""
    y, s = checked(labels, scores)
    return Part(units, lambda weights: metric(y, s, weights), stratum, seed)


def of_mean(values: ArrayLike, units: ArrayLike, stratum: str = "", seed: int = 0) -> Part:
    """Return the mean of values `(n,)` as a part; NaN values are left out."""
    found = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(found)
    filled = np.where(known, found, 0.0)

    def measure(weights: Floats | None) -> Floats:
        counts = np.ones((1, found.size)) if weights is None else weights
        means = ratio(counts @ filled, counts @ known)
        return means[0] if weights is None else means

    return Part(units, measure, stratum, seed)


def interval(
    parts: Sequence[Part],
    name: str = "",
    *,
    seeds: bool = False,
    repeats: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean over the parts with its percentile interval.

    Args:
        parts: one or more.
        name: name of the measure.
        seeds: also draw the trainings' seeds with replacement, for each resample.
        repeats: number of resamples.
        level: share of the resamples inside the interval.
        seed: seed of the resampling.

    Raises:
        ValueError: if there is no part, an option is out of range, or two parts of a stratum have
            different subjects.

    Examples:
        >>> found = interval([of_mean([0.5, 0.7, 0.9], ["a", "b", "c"])], "dice")
        >>> round(found.value, 3), found.low < 0.7 < found.high
        (0.7, True)
    """
    draws, count = _drawn(parts, repeats, seed, level)
    return _summed(parts, draws, count, name, seeds, level, seed)


def interval_by_cases_and_seeds(
    parts: Sequence[Part], name: str = "", *, repeats: int = 2000
) -> tuple[Interval, Interval]:
    """Return `interval` with subjects drawn, and with seeds drawn too, on the same resamples."""
    draws, count = _drawn(parts, repeats, 0, 0.95)
    first, second = (_summed(parts, draws, count, name, seeds, 0.95, 0) for seeds in (False, True))
    return first, second


def bootstrap(
    metric: Metric,
    labels: ArrayLike,
    scores: ArrayLike,
    subjects: ArrayLike,
    other: ArrayLike | None = None,
    **options: int | float,
) -> Interval:
    """Return a metric, or its difference to another method's scores, with its interval.

    Args:
        metric: such as `ppi_med.evaluation.metrics.AUC`.
        labels: `(n,)`, 0 or 1.
        scores: `(n,)`.
        subjects: `(n,)`, the subject of each case.
        other: `(n,)`, scores of another method for the same cases: metric(scores) -
            metric(other), paired.
        options: `repeats`, `level` and `seed` of `interval`.

    Raises:
        ValueError: if the metric is undefined on the cases or on all resamples, a case names
            no subject, or there are fewer than two.

    Examples:
        >>> from ppi_med.evaluation.metrics import AUC
        >>> found = bootstrap(AUC, [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], ["a", "b", "c", "d"])
        >>> found.value
        0.75
    """
    y, s = checked(labels, scores)
    groups = _checked_subjects(subjects, y.size)
    value = float(metric(y, s))
    if np.isnan(value):
        raise ValueError(
            f"{metric.name} is not defined on these {y.size} cases "
            f"({int(y.sum())} of label 1), expected both classes."
        )
    part = of_metric(metric, y, s, groups)
    if other is not None:
        part = part.minus(of_metric(metric, y, other, groups))
    found = interval([part], metric.name, **options)  # type: ignore[arg-type]
    if np.isnan(found.low):
        raise ValueError(f"{metric.name} is not defined on any resample: too few subjects.")
    return found


def subject_weights(subjects: ArrayLike, repeats: int, seed: int) -> Iterator[Floats]:
    """Yield `(some, n)`: how often each case counts in each resample, `repeats` rows in all.

    Args:
        subjects: `(n,)`, the subject of each case.
        repeats: number of resamples.
        seed: the same seed gives the same resamples.

    Raises:
        ValueError: if `repeats` is not positive.
    """
    if repeats < 1:
        raise ValueError(f"Got repeats={repeats}, expected at least one.")
    names, index = np.unique(np.asarray(subjects).astype(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    step = max(1, _WEIGHTS_AT_ONCE // index.size)
    for start in range(0, repeats, step):
        rows = min(step, repeats - start)
        drawn = rng.integers(names.size, size=(rows, names.size))
        drawn += np.arange(rows)[:, None] * names.size
        counts = np.bincount(drawn.ravel(), minlength=rows * names.size)
        yield counts.reshape(rows, names.size)[:, index].astype(np.float64)


def _drawn(
    parts: Sequence[Part], repeats: int, seed: int, level: float
) -> tuple[Floats | None, int]:
    """Return the measure of each part on each resample, None without any, and the subjects."""
    if not parts or not 0 < level < 1:
        raise ValueError(
            f"Got {len(parts)} parts and level={level}, expected some and a share between 0 and "
            "1, such as 0.95."
        )
    groups: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        groups.setdefault(part.stratum, []).append(number)
    counts = [np.unique(np.asarray(parts[of[0]].units).astype(str)).size for of in groups.values()]
    if min(counts) < 2:
        return None, sum(counts)
    draws = np.empty((len(parts), repeats))
    for stratum, members in groups.items():
        # With one seed for all strata, subjects of equal rank would be drawn together everywhere.
        own = seed ^ crc32(stratum.encode())
        _fill([parts[number] for number in members], draws, members, own)
    return draws, sum(counts)


def _summed(
    parts: Sequence[Part],
    draws: Floats | None,
    count: int,
    name: str,
    seeds: bool,
    level: float,
    seed: int,
) -> Interval:
    value = float(np.mean([float(part.measure(None)) for part in parts]))
    if draws is None:
        return Interval(name, value, NAN, NAN, level, count)
    means = _over_seeds(draws, [part.seed for part in parts], seed) if seeds else draws.mean(axis=0)
    kept = means[~np.isnan(means)]
    low, high, p_value = _ends(kept, level)
    return Interval(name, value, low, high, level, count, means.size - kept.size, p_value)


def _fill(parts: Sequence[Part], draws: Floats, rows: Sequence[int], seed: int) -> None:
    """Fill the rows of a stratum's parts; all are measured on the same resamples."""
    units = np.asarray(parts[0].units)
    for part in parts[1:]:
        if not np.array_equal(units, np.asarray(part.units)):
            raise ValueError(
                f"Two parts of {part.stratum or 'one stratum'} have other cases, expected the "
                "same ones in one order."
            )
    start = 0
    for weights in subject_weights(units, draws.shape[1], seed):
        for row, part in zip(rows, parts, strict=True):
            draws[row, start : start + len(weights)] = part.measure(weights)
        start += len(weights)


def _over_seeds(draws: Floats, seeds: Sequence[int], seed: int) -> Floats:
    """Return the mean over the parts of the seeds that are drawn for each resample."""
    own, names = np.asarray(seeds), sorted(set(seeds))
    by_seed = np.stack([draws[own == name].mean(axis=0) for name in names], axis=1)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws.shape[1], len(names)))
    found: Floats = np.take_along_axis(by_seed, drawn, axis=1).mean(axis=1)
    return found


def _ends(kept: Floats, level: float) -> tuple[float, float, float]:
    """Return both ends, and the p-value of no difference."""
    if kept.size == 0:
        return NAN, NAN, NAN
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    # One more on either side: a p-value of exactly 0 is more than a finite sample can say.
    tail = min((kept <= 0).sum(), (kept >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (tail + 1) / (kept.size + 1)))


def _checked_subjects(
    subjects: ArrayLike, n: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.str_]]:
    groups = np.asarray(subjects).astype(str)
    if groups.shape != (n,):
        raise ValueError(f"Got subjects of shape {groups.shape}, expected ({n},): one per case.")
    if (groups == "").any():
        raise ValueError(
            f"{int((groups == '').sum())} of {n} cases name no subject, expected one for each: "
            "unknown subjects would be resampled as if they were one."
        )
    if np.unique(groups).size < 2:
        raise ValueError("Got 1 subject, expected at least two: subjects are what is resampled.")
    return groups
