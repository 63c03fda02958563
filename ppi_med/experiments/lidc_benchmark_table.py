"""The table of the LIDC benchmark, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.evaluation.bootstrap import subject_weights
from ppi_med.evaluation.delong import delong_test, mean_of_folds
from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.lidc_benchmark import ENTRIES, PLAIN

Record = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """The test cases of all folds of one entry and seed, sorted by name."""

    names: NDArray[np.str_]
    subjects: NDArray[np.str_]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True)
class Row:
    """One entry.

    Attributes:
        entry: its name.
        seeds: how many.
        folds: how many; less than the others' where it is not finished.
        auc: mean over folds and seeds, with the ends of its 95 % interval over patients.
        by_fold: mean over seeds, a fold each.
        gain: AUC minus plain training's on the same folds and seeds, with its interval; None for
            plain training itself or without any in common.
        p_value: DeLong's inside each fold, over the mean of the folds, for the first common seed;
            it takes cases as independent.
        sensitivity: at the validation patients' threshold.
        specificity: there too.
        ece: calibration error.
        minutes: mean of the runs that were not stopped between; NaN where there is none.
    """

    entry: str
    seeds: int
    folds: int
    auc: tuple[float, float, float]
    by_fold: tuple[float, ...]
    gain: tuple[float, float, float] | None
    p_value: float | None
    sensitivity: float
    specificity: float
    ece: float
    minutes: float


def rows(records: Iterable[Record], repeats: int = 2000) -> list[Row]:
    """Return a row for each entry, in the benchmark's order.

    Args:
        records: of `run_lidc_benchmark`.
        repeats: resamples of the intervals.
    """
    groups: dict[str, dict[int, list[Record]]] = {}
    for record in records:
        by_seed = groups.setdefault(str(record["entry"]), {})
        by_seed.setdefault(int(record["seed"]), []).append(record)
    order = [*(name for name in ENTRIES if name in groups), *sorted(set(groups) - set(ENTRIES))]
    plain = _pooled(groups.get(PLAIN, {}))
    return [_row(name, groups[name], plain, repeats) for name in order]


def _row(
    entry: str, by_seed: dict[int, list[Record]], plain: dict[int, Pooled], repeats: int
) -> Row:
    own = _pooled(by_seed)
    # A seed that lacks folds would weigh some patients more than others.
    cases = max(len(one.names) for one in own.values())
    own = {seed: one for seed, one in own.items() if len(one.names) == cases}
    records = [record for found in by_seed.values() for record in found]
    shared = [s for s in own if entry != PLAIN and s in plain and _same(own[s], plain[s])]
    gain, p_value = None, None
    if shared:
        gain = _interval([own[s] for s in shared], [plain[s] for s in shared], repeats)
        p_value = _p_value(own[shared[0]], plain[shared[0]])
    numbers = sorted(set(next(iter(own.values())).folds.tolist()))
    return Row(
        entry=entry,
        seeds=len(own),
        folds=len(numbers),
        auc=_interval(list(own.values()), None, repeats),
        by_fold=tuple(
            float(np.mean([_fold_aucs(one, None)[k] for one in own.values()]))
            for k in range(len(numbers))
        ),
        gain=gain,
        p_value=p_value,
        sensitivity=_mean(records, "test/sensitivity"),
        specificity=_mean(records, "test/specificity"),
        ece=_mean(records, "test/ece"),
        minutes=_mean(records, "seconds") / 60,
    )


def _pooled(by_seed: Mapping[int, Sequence[Record]]) -> dict[int, Pooled]:
    found = {}
    for seed in sorted(by_seed):
        columns: list[tuple[str, str, int, int, float]] = []
        for record in by_seed[seed]:
            cases = record["predictions"]
            columns += zip(
                cases["volume_id"].split(),
                cases["subject"].split(),
                map(int, cases["label"]),
                [int(record["fold"])] * len(cases["label"]),
                map(float, cases["score"].split()),
                strict=True,
            )
        names, subjects, labels, folds, scores = zip(*sorted(columns), strict=True)
        found[seed] = Pooled(
            np.asarray(names),
            np.asarray(subjects),
            np.asarray(labels),
            np.asarray(folds),
            np.asarray(scores, dtype=np.float64),
        )
    return found


def _same(a: Pooled, b: Pooled) -> bool:
    return a.names.shape == b.names.shape and bool(
        (a.names == b.names).all() and (a.folds == b.folds).all()
    )


def _interval(
    ours: Sequence[Pooled], others: Sequence[Pooled] | None, repeats: int
) -> tuple[float, float, float]:
    """Return the mean AUC over seeds and folds, or its difference, with an interval."""

    def measure(weights: Floats | None) -> Floats:
        values = [_fold_aucs(one, weights).mean(axis=0) for one in ours]
        if others is not None:
            values = [
                a - _fold_aucs(b, weights).mean(axis=0) for a, b in zip(values, others, strict=True)
            ]
        return np.asarray(np.mean(values, axis=0))

    draws = [measure(w) for w in subject_weights(ours[0].subjects, repeats, seed=0)]
    low, high = np.nanpercentile(np.concatenate(draws), [2.5, 97.5])
    return float(measure(None)), float(low), float(high)


def _p_value(ours: Pooled, plain: Pooled) -> float:
    tests = []
    for fold in np.unique(ours.folds):
        inside = ours.folds == fold
        tests.append(delong_test(ours.labels[inside], ours.scores[inside], plain.scores[inside]))
    return mean_of_folds(tests).p_value


def _fold_aucs(one: Pooled, weights: Floats | None) -> Floats:
    """Return the AUC of each fold: scores of two networks have no common scale."""
    values = []
    for fold in np.unique(one.folds):
        inside = one.folds == fold
        own = None if weights is None else weights[..., inside]
        values.append(AUC(one.labels[inside], one.scores[inside], own))
    return np.asarray(values)


def _mean(records: Sequence[Record], name: str) -> float:
    values = [float(record[name]) for record in records if name in record]
    return float(np.mean(values)) if values else float("nan")


def markdown(table: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = ["method", "runs", "AUC", "by fold", "difference to plain", "DeLong's p"]
    head += ["sensitivity", "specificity", "ECE", "minutes a run"]
    lines = [
        [
            row.entry,
            f"{row.folds} x {row.seeds}",
            f"{row.auc[0]:.3f} [{row.auc[1]:.3f}, {row.auc[2]:.3f}]",
            " ".join(f"{value:.3f}" for value in row.by_fold),
            "" if row.gain is None else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*row.gain),
            _p_text(row.p_value),
            *(f"{value:.3f}" for value in (row.sensitivity, row.specificity, row.ece)),
            "" if np.isnan(row.minutes) else f"{row.minutes:.1f}",
        ]
        for row in table
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *lines])


def _p_text(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
