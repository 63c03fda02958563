"""A training method's gain over plain training, from records of the same seeds and cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ppi_med.evaluation.bootstrap import Interval, interval
from ppi_med.experiments.records import Record, cases_of
from ppi_med.experiments.table import Value, number

PLAIN = "plain"


@dataclass(frozen=True)
class Entry:
    """One measure of one method.

    Attributes:
        method: its name.
        measure: such as `test/auc`.
        values: one per seed.
        gain: mean over the seeds that both have, minus plain training's, with the interval over
            resampled subjects and seeds; None for plain training or without a common seed.
        p_seeds: p-value of the paired t test over the seeds; NaN for fewer than two.
    """

    method: str
    measure: str
    values: tuple[float, ...]
    gain: Interval | None = None
    p_seeds: float = float("nan")

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds (n - 1); NaN for a single seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("nan")

    def shown(self, digits: int = 3) -> Value:
        """Return mean, standard deviation and number of seeds for a table."""
        value = number(self.mean, self.deviation, digits)
        return Value(f"{value.text} (n={len(self.values)})", value.value)


def entries(
    records: Iterable[Record], measure: str, repeats: int = 2000, *, stratum: str = ""
) -> list[Entry]:
    """Return an entry for each method, in the order of first appearance.

    Args:
        records: one per method and seed, with the measure and the test cases.
        measure: such as `test/auc`, `test/accuracy` or `test/energy_all`.
        repeats: resamples of the intervals.
        stratum: name of the records' key whose values have different test cases, such as the split;
            "" if all have the same.

    Raises:
        ValueError: if two records of a seed have different test cases.
    """
    by_method: dict[str, dict[int, Record]] = {}
    for record in records:
        by_method.setdefault(record["method"], {})[int(record["seed"])] = record
    plain = by_method.get(PLAIN, {})
    return [
        _entry(method, measure, own, plain, repeats, stratum) for method, own in by_method.items()
    ]


def _entry(
    method: str,
    measure: str,
    own: dict[int, Record],
    plain: dict[int, Record],
    repeats: int,
    stratum: str,
) -> Entry:
    values = tuple(float(own[seed][measure]) for seed in sorted(own))
    shared = [seed for seed in sorted(own) if seed in plain]
    if method == PLAIN or not shared:
        return Entry(method, measure, values)
    gains = [float(own[seed][measure] - plain[seed][measure]) for seed in shared]
    parts = [
        cases_of(own[seed]).difference(
            cases_of(plain[seed]), measure, str(own[seed][stratum]) if stratum else "", seed
        )
        for seed in shared
    ]
    found = interval(parts, measure, seeds=not stratum, repeats=repeats)
    # The recorded measures have more digits than the cases.
    found = replace(found, value=float(np.mean(gains)))
    return Entry(method, measure, values, found, _paired_t(gains))


def _paired_t(gains: Sequence[float]) -> float:
    if len(gains) < 2:
        return float("nan")
    if np.ptp(gains) == 0:
        return 1.0 if gains[0] == 0 else 0.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(gains, 0.0).pvalue)
