"""The matrix of sites (Table 3), the folds of Table 2, and differences of methods, from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ppi_med.errors import UsageError
from ppi_med.evaluation.bootstrap import Part, interval, interval_by_cases_and_seeds, of_metric
from ppi_med.evaluation.checks import Floats
from ppi_med.evaluation.metrics import AUC
from ppi_med.evaluation.predictions import Predictions
from ppi_med.experiments.compare import PLAIN
from ppi_med.experiments.selection import Selection, select
from ppi_med.experiments.sweep_records import CellRecord


@dataclass(frozen=True)
class Matrix:
    """AUC of one method: trained on (rows), tested on (columns).

    Attributes:
        method: its name.
        train_sites: labels of the rows.
        test_sites: test sites of the columns.
        seeds: the seeds in it.
        values: `(rows, columns)`, mean over the seeds; NaN where a cell is missing.
        deviations: `(rows, columns)`, standard deviation over the seeds (n - 1).
        seen: `(rows, columns)`, where the test site is among the training sites.
    """

    method: str
    train_sites: tuple[str, ...]
    test_sites: tuple[str, ...]
    seeds: tuple[int, ...]
    values: Floats
    deviations: Floats
    seen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

    @property
    def row_means(self) -> Floats:
        """Mean of each row over all test sites, as in Table 3."""
        return _mean_of_rows(self.values)

    @property
    def row_deviations(self) -> Floats:
        """Standard deviation of each row over the test sites (n - 1), as in Table 3."""
        if self.values.shape[1] < 2:
            return np.full(self.values.shape[0], np.nan)
        found: Floats = np.std(self.values, axis=1, ddof=1)
        return found

    @property
    def other_sites(self) -> float:
        """Mean over the cells whose test site was not trained on."""
        return _mean(self.values[~self.seen])

    @property
    def same_site(self) -> float:
        """Mean over the cells whose test site was trained on."""
        return _mean(self.values[self.seen])

    @property
    def deviation(self) -> float:
        """Standard deviation over all cells (n - 1)."""
        known = self.values[~np.isnan(self.values)]
        return float(np.std(known, ddof=1)) if known.size > 1 else float("nan")


@dataclass(frozen=True)
class Gain:
    """The gain of a method, paired: same training site, seed and test cases.

    Attributes:
        value: mean difference of AUC.
        low: lower end of the 95 % interval over resampled subjects.
        high: upper end.
        low_with_seeds: lower end if seeds are resampled too.
        high_with_seeds: upper end.
        cells: number of pairs.
    """

    value: float
    low: float
    high: float
    low_with_seeds: float
    high_with_seeds: float
    cells: int


_NAN = float("nan")
NO_GAIN = Gain(_NAN, _NAN, _NAN, _NAN, _NAN, cells=0)

Chosen = dict[tuple[str, str, int, str], CellRecord]
"""(training, method, seed, test site) -> its cell."""


def choose(records: Sequence[CellRecord], sites: Sequence[str], selection: Selection) -> Chosen:
    """Return the cell that counts for each training, method, seed and test site.

    Raises:
        UsageError: if the selection cannot choose.
    """
    found: Chosen = {}
    for site in sites:
        for record in select(records, selection, site):
            found[record.train_site, record.method, record.seed, site] = record
    return found


def methods_of(records: Sequence[CellRecord]) -> list[str]:
    """Return the methods, plain training first, PPI last, others between."""
    names = sorted({record.method for record in records})
    return sorted(names, key=lambda name: (name.startswith("ppi"), name != PLAIN, name))


def matrices(
    records: Sequence[CellRecord], sites: Sequence[str], selection: Selection
) -> list[Matrix]:
    """Return a matrix for each method.

    Raises:
        UsageError: if the selection cannot choose.
    """
    chosen = choose(records, sites, selection)
    rows = _rows(records, sites)
    trained = {record.train_site: record.train_sites for record in records}
    seen = np.array([[site in trained[row] for site in sites] for row in rows])
    found = []
    for method in methods_of(records):
        seeds = tuple(sorted({r.seed for r in records if r.method == method}))
        cells = np.full((len(rows), len(sites), len(seeds)), np.nan)
        for i, row in enumerate(rows):
            for j, site in enumerate(sites):
                for k, seed in enumerate(seeds):
                    record = chosen.get((row, method, seed, site))
                    if record is not None:
                        cells[i, j, k] = record.auc(site)
        values, deviations = _over_seeds(cells)
        found.append(Matrix(method, tuple(rows), tuple(sites), seeds, values, deviations, seen))
    return found


def gain(
    chosen: Chosen, method: str, other_sites: bool, *, base: str = PLAIN, repeats: int = 2000
) -> Gain:
    """Return a method's gain over another, over cells that both have.

    The mean of AUC(method) - AUC(base) over pairs of the same training, seed and test site. Whole
    subjects of each test site are resampled: the same ones for all cells of that site,
    independently for each site.

    Args:
        chosen: result of `choose`.
        method: the first method.
        other_sites: over test sites that were not trained on; False: over
            those that were.
        base: the second method.
        repeats: resamples.

    Raises:
        UsageError: if the two were tested on different cases.
    """
    pairs = [
        (site, seed, chosen[train, method, seed, site], chosen[train, base, seed, site])
        for (train, name, seed, site) in sorted(chosen)
        if name == method and (train, base, seed, site) in chosen
    ]
    pairs = [p for p in pairs if (p[0] in p[2].train_sites) != other_sites]
    if not pairs:
        return NO_GAIN
    values = np.array([a.auc(site) - b.auc(site) for site, _, a, b in pairs])
    found, too = interval_by_cases_and_seeds([_part(*pair) for pair in pairs], repeats=repeats)
    return Gain(float(np.mean(values)), found.low, found.high, too.low, too.high, len(pairs))


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

    Raises:
        UsageError: if the selection cannot choose.
    """
    chosen = {
        (record.method, record.fold or 0, record.seed): record
        for record in select(records, selection, "")
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
        found.append(FoldResult(method, folds, *_fold_gain(method, pairs, repeats)))
    return found


def _fold_gain(
    method: str, pairs: Sequence[tuple[CellRecord, CellRecord]], repeats: int
) -> tuple[float, float, float]:
    if method == PLAIN or not pairs:
        return _NAN, _NAN, _NAN
    value = float(np.mean([a.auc() - b.auc() for a, b in pairs]))
    # The same subjects for all cells of a fold, independently for each fold.
    found = interval(
        [difference(a.predictions, b.predictions, f"fold{a.fold}", a.seed) for a, b in pairs],
        repeats=repeats,
    )
    return value, found.low, found.high


def _part(site: str, seed: int, a: CellRecord, b: CellRecord) -> Part:
    """Return the paired difference on a site's cases; each site's subjects are drawn separately."""
    one, other = a.predictions.of_site(site), b.predictions.of_site(site)
    if not np.array_equal(one.volume_id, other.volume_id):
        raise UsageError(
            f"{a.name} and {b.name} were tested on different cases of {site}: they are not of one "
            "sweep."
        )
    return difference(one, other, site, seed)


def difference(one: Predictions, other: Predictions, stratum: str, seed: int) -> Part:
    """Return AUC(one) - AUC(other) on the same cases, for an interval."""
    ours = of_metric(AUC, one.label, one.score, one.units, stratum, seed)
    return ours.minus(of_metric(AUC, other.label, other.score, one.units, stratum, seed))


def _rows(records: Sequence[CellRecord], sites: Sequence[str]) -> list[str]:
    """Return the labels of the rows: single sites in the columns' order, then the others."""
    labels = {record.train_site for record in records}
    single = [site for site in sites if site in labels]
    return single + sorted(labels - set(single))


def _over_seeds(cells: Floats) -> tuple[Floats, Floats]:
    values, deviations = np.full(cells.shape[:2], np.nan), np.full(cells.shape[:2], np.nan)
    for place in np.ndindex(*cells.shape[:2]):
        known = cells[place][~np.isnan(cells[place])]
        if known.size:
            values[place] = known.mean()
        if known.size > 1:
            deviations[place] = known.std(ddof=1)
    return values, deviations


def _mean(values: Floats) -> float:
    """Return the mean; NaN where a cell is missing, or there is no cell."""
    return float(values.mean()) if values.size else float("nan")


def _mean_of_rows(values: Floats) -> Floats:
    found: Floats = values.mean(axis=1)
    return found
