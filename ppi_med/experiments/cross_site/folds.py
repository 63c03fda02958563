"""Cross-validation over subject-wise folds, from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ppi_med.evaluation.bootstrap import subject_weights
from ppi_med.evaluation.checks import Floats
from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.cross_site.matrix import PLAIN, methods_of
from ppi_med.experiments.cross_site.records import CellRecord
from ppi_med.experiments.cross_site.selection import Selection, select

_ALL = ""


@dataclass(frozen=True)
class FoldResult:
    """One method over the folds.

    Attributes:
        method: its name.
        folds: fold -> AUC on it, mean over the seeds.
        gain: mean difference to plain training of the same fold and seed.
        low: lower end of its 95 % interval over subjects.
        high: upper end.
    """

    method: str
    folds: Mapping[int, float]
    gain: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return float(np.mean(list(self.folds.values())))

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds (n - 1); NaN for a single one."""
        values = list(self.folds.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def fold_results(
    records: Sequence[CellRecord], selection: Selection, repeats: int = 2000
) -> list[FoldResult]:
    """Return a result for each method.

    Args:
        records: of a cross-validation.
        selection: of settings, where there are several.
        repeats: resamples of the interval.

    Raises:
        UsageError: where the selection cannot choose.
    """
    chosen = {
        (record.method, record.fold or 0, record.seed): record
        for record in select(records, selection, _ALL)
    }
    found = []
    for method in methods_of(records):
        own = {key[1:]: record for key, record in chosen.items() if key[0] == method}
        folds = {
            fold: float(np.mean([r.auc() for (f, _), r in own.items() if f == fold]))
            for fold in sorted({fold for fold, _ in own})
        }
        pairs = [
            (record, chosen[PLAIN, *place])
            for place, record in own.items()
            if (PLAIN, *place) in chosen
        ]
        found.append(FoldResult(method, folds, *_gain(method, pairs, repeats)))
    return found


def _gain(
    method: str, pairs: Sequence[tuple[CellRecord, CellRecord]], repeats: int
) -> tuple[float, float, float]:
    nothing = (float("nan"),) * 3
    if method == PLAIN or not pairs:
        return nothing
    value = float(np.mean([a.auc() - b.auc() for a, b in pairs]))
    draws = np.mean([_draws(a, b, repeats) for a, b in pairs], axis=0)
    kept = draws[~np.isnan(draws)]
    if kept.size == 0:
        return nothing
    low, high = np.quantile(kept, [0.025, 0.975])
    return value, float(low), float(high)


def _draws(a: CellRecord, b: CellRecord, repeats: int) -> Floats:
    one, other = a.predictions, b.predictions
    names = zip(one.subject.tolist(), one.volume_id.tolist(), strict=True)
    subjects = [subject or f"case {name}" for subject, name in names]
    # The same subjects for all cells of a fold, others in other folds.
    seed = crc32(f"fold{a.fold}".encode())
    found = [
        AUC(one.label, one.score, weights) - AUC(other.label, other.score, weights)
        for weights in subject_weights(subjects, repeats, seed)
    ]
    return np.concatenate(found)
