"""The table of the shortcut experiment, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.evaluation.bootstrap import subject_weights
from ppi_med.evaluation.metrics import AUC
from ppi_med.naming import TEST_AUC, VAL_AUC

Record = dict[str, Any]
PLAIN = "plain"


@dataclass(frozen=True)
class Row:
    """One method on one kind of training data.

    Attributes:
        method: its name.
        training: ``artefact`` or ``clean``.
        aucs: test AUC of each seed.
        validation: mean AUC of the in-site validation.
        gain: mean AUC minus plain training's, over the seeds that both have.
        low: lower end of the gain's 95 % interval: subjects and seeds resampled.
        high: upper end.
    """

    method: str
    training: str
    aucs: tuple[float, ...]
    validation: float
    gain: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.aucs))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds (n - 1); NaN for a single seed."""
        return float(np.std(self.aucs, ddof=1)) if len(self.aucs) > 1 else float("nan")


def rows(records: Iterable[Record], repeats: int = 1000) -> list[Row]:
    """Return a row for each method and kind of training data, in the order of first appearance.

    Args:
        records: of :func:`ppi_med.experiments.shortcut.run_shortcut`.
        repeats: resamples of the interval.
    """
    groups: dict[tuple[str, str], dict[int, Record]] = {}
    for record in records:
        key = (record["training"], record["method"])
        groups.setdefault(key, {})[int(record["seed"])] = record
    made = []
    for (training, method), by_seed in groups.items():
        plain = groups.get((training, PLAIN), {})
        made.append(_row(training, method, by_seed, plain, repeats))
    return made


def _row(
    training: str,
    method: str,
    by_seed: dict[int, Record],
    plain: dict[int, Record],
    repeats: int,
) -> Row:
    seeds = sorted(by_seed)
    shared = [seed for seed in seeds if seed in plain]
    gain, low, high = _gain([by_seed[s] for s in shared], [plain[s] for s in shared], repeats)
    return Row(
        method=method,
        training=training,
        aucs=tuple(float(by_seed[seed][TEST_AUC]) for seed in seeds),
        validation=float(np.mean([by_seed[seed][VAL_AUC] for seed in seeds])),
        gain=gain,
        low=low,
        high=high,
    )


def _gain(
    ours: Sequence[Record], plain: Sequence[Record], repeats: int
) -> tuple[float, float, float]:
    """Mean difference of AUC with an interval over subjects and over seeds."""
    if not ours:
        return float("nan"), float("nan"), float("nan")
    differences = [a[TEST_AUC] - b[TEST_AUC] for a, b in zip(ours, plain, strict=True)]
    if ours[0]["method"] == PLAIN:
        return 0.0, 0.0, 0.0
    cases = ours[0]["predictions"]
    labels = np.asarray(cases["label"])
    rng = np.random.default_rng(0)
    draws = []
    for weights in subject_weights(cases["subject"], repeats, seed=0):
        for row in np.atleast_2d(weights):
            chosen = rng.integers(len(ours), size=len(ours))
            measured = [_auc(ours[i], labels, row) - _auc(plain[i], labels, row) for i in chosen]
            draws.append(float(np.mean(measured)))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(np.mean(differences)), float(low), float(high)


def _auc(record: Record, labels: NDArray[Any], weights: NDArray[Any]) -> float:
    repeated = np.repeat(np.arange(len(labels)), weights.astype(int))
    scores = np.asarray(record["predictions"]["score"])
    return float(AUC(labels[repeated], scores[repeated]))


def markdown(table: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, one line a method."""
    methods = list(dict.fromkeys(row.method for row in table))
    found = {(row.training, row.method): row for row in table}
    lines = [
        "| method | trained with the artefact | gain over plain | in-site validation "
        "| trained without it | difference to plain |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method in methods:
        artefact, clean = found.get(("artefact", method)), found.get(("clean", method))
        validation = "" if artefact is None else f"{artefact.validation:.3f}"
        lines.append(
            f"| {method} | {_value(artefact)} | {_difference(artefact)} | {validation} "
            f"| {_value(clean)} | {_difference(clean)} |"
        )
    return "\n".join(lines) + "\n"


def _value(row: Row | None) -> str:
    if row is None:
        return ""
    spread = "" if np.isnan(row.deviation) else f" ± {row.deviation:.3f}"
    return f"{row.mean:.3f}{spread} (n={len(row.aucs)})"


def _difference(row: Row | None) -> str:
    if row is None or row.method == PLAIN or np.isnan(row.gain):
        return ""
    return f"{row.gain:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
