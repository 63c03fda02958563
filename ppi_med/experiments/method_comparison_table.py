"""The tables of a method comparison (Tables 2, 4 and 7), from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.evaluation.bootstrap import subject_weights
from ppi_med.evaluation.checks import ratio
from ppi_med.evaluation.metrics import AUC
from ppi_med.naming import TEST_ACCURACY, TEST_AUC

Record = dict[str, Any]
Floats = NDArray[np.float64]
PLAIN = "plain"
_ENERGIES = ("energy_top", "energy_all")
NAN = float("nan")


@dataclass(frozen=True)
class Entry:
    """One measure of one method.

    Attributes:
        method: its name.
        measure: such as ``test/accuracy``.
        values: one a seed.
        gain: mean over the seeds that both have, minus plain training's; NaN without any.
        low: lower end of the gain's 95 % interval; cases and seeds resampled.
        high: upper end.
        p_cases: two-sided, from those resamples.
        p_seeds: of the paired t test over the seeds; NaN for fewer than two.
    """

    method: str
    measure: str
    values: tuple[float, ...]
    gain: float = NAN
    low: float = NAN
    high: float = NAN
    p_cases: float = NAN
    p_seeds: float = NAN

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds (n - 1); NaN for a single seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else NAN


def measures_of(records: Sequence[Record]) -> list[str]:
    """Return the measures that all records have: what is compared with plain training.

    Accuracy (of each site where there are several), or AUC; then the energies in the box.
    """
    common = set.intersection(*(set(record) for record in records)) if records else set()
    by_site = sorted((n for n in common if n.startswith(f"{TEST_ACCURACY}/")), reverse=True)
    answers = by_site or [name for name in (TEST_ACCURACY, TEST_AUC) if name in common]
    return [*answers, *(name for n in _ENERGIES if (name := f"test/{n}") in common)]


def entries(records: Iterable[Record], repeats: int = 2000) -> list[Entry]:
    """Return an entry for each measure and method, methods in the order of first appearance.

    Args:
        records: of :func:`ppi_med.experiments.method_comparison.run_comparison`.
        repeats: resamples of the intervals.
    """
    listed = list(records)
    by_method: dict[str, dict[int, Record]] = {}
    for record in listed:
        by_method.setdefault(record["method"], {})[int(record["seed"])] = record
    plain = by_method.get(PLAIN, {})
    return [
        _entry(method, measure, by_seed, plain, repeats)
        for measure in measures_of(listed)
        for method, by_seed in by_method.items()
    ]


def _entry(
    method: str, measure: str, own: dict[int, Record], plain: dict[int, Record], repeats: int
) -> Entry:
    values = tuple(float(own[seed][measure]) for seed in sorted(own))
    shared = [seed for seed in sorted(own) if seed in plain]
    if method == PLAIN or not shared:
        return Entry(method, measure, values)
    gains = np.array([own[seed][measure] - plain[seed][measure] for seed in shared])
    pairs = [(own[seed]["cases"], plain[seed]["cases"]) for seed in shared]
    draws = _resampled(measure, pairs, repeats)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    # One more on either side: a p-value of exactly 0 is more than a finite sample can say.
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    p_cases = min(1.0, 2 * (tail + 1) / (len(draws) + 1))
    gain = float(gains.mean())
    return Entry(
        method, measure, values, gain, float(low), float(high), float(p_cases), _paired_t(gains)
    )


def _paired_t(gains: Floats) -> float:
    if len(gains) < 2:
        return NAN
    if np.ptp(gains) == 0:
        return 1.0 if gains[0] == 0 else 0.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(gains, 0.0).pvalue)


def _resampled(
    measure: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], repeats: int
) -> Floats:
    """Return mean differences, `repeats` of them, with cases and seeds drawn with replacement."""
    kept = _kept(measure, pairs[0][0])
    groups = np.asarray(pairs[0][0]["group"])[kept]
    by_seed = []
    for own, plain in pairs:
        if own["volume_id"] != plain["volume_id"]:
            raise ValueError(
                "Two records have other test cases, expected the same ones: remove the records "
                "of other data."
            )
        weights = subject_weights(groups, repeats, seed=0)
        by_seed.append(np.concatenate([_difference(measure, own, plain, kept, w) for w in weights]))
    drawn = np.random.default_rng(0).integers(len(pairs), size=(repeats, len(pairs)))
    picked: Floats = np.take_along_axis(np.stack(by_seed, 1), drawn, axis=1).mean(1)
    return picked


def _kept(measure: str, cases: dict[str, Any]) -> NDArray[np.bool_]:
    site = measure.removeprefix(TEST_ACCURACY).removeprefix("/")
    if not measure.startswith(TEST_ACCURACY) or not site:
        return np.ones(len(cases["volume_id"]), dtype=bool)
    kept: NDArray[np.bool_] = np.asarray(cases["site"]) == site
    return kept


def _difference(
    measure: str,
    own: dict[str, Any],
    plain: dict[str, Any],
    kept: NDArray[np.bool_],
    weights: Floats,
) -> Floats:
    """Return the measure of the one minus that of the other under each row of weights."""
    if measure == TEST_AUC:
        labels = np.asarray(own["label"])[kept]
        scores = [np.asarray(cases["score"])[kept] for cases in (own, plain)]
        found: Floats = AUC(labels, scores[0], weights) - AUC(labels, scores[1], weights)
        return found
    column = "right" if measure.startswith(TEST_ACCURACY) else measure.removeprefix("test/")
    return _means(own[column], kept, weights) - _means(plain[column], kept, weights)


def _means(values: Sequence[Any], kept: NDArray[np.bool_], weights: Floats) -> Floats:
    column = np.asarray(values, dtype=np.float64)[kept]
    defined = ~np.isnan(column)
    return ratio(weights[:, defined] @ column[defined], weights[:, defined].sum(1))


def markdown(found: Sequence[Entry]) -> str:
    """Return one Markdown table a measure, one line a method."""
    tables = []
    for measure in dict.fromkeys(entry.measure for entry in found):
        lines = [
            f"| {measure} | mean ± SD over seeds | gain over plain | p (cases, seeds) "
            "| p (t over seeds) |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_line(entry) for entry in found if entry.measure == measure]
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def _line(entry: Entry) -> str:
    spread = "" if np.isnan(entry.deviation) else f" ± {entry.deviation:.4f}"
    value = f"{entry.mean:.4f}{spread} (n={len(entry.values)})"
    if np.isnan(entry.gain):
        return f"| {entry.method} | {value} |  |  |  |"
    gain = f"{entry.gain:+.4f} [{entry.low:+.4f}, {entry.high:+.4f}]"
    p_seeds = "" if np.isnan(entry.p_seeds) else f"{entry.p_seeds:.3f}"
    return f"| {entry.method} | {value} | {gain} | {entry.p_cases:.4f} | {p_seeds} |"
