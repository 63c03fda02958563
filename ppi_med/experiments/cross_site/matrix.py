"""The matrix of training and test sites (Table 3) and what methods differ by, from records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ppi_med.errors import UsageError
from ppi_med.evaluation.bootstrap import subject_weights
from ppi_med.evaluation.checks import Floats
from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.cross_site.records import CellRecord
from ppi_med.experiments.cross_site.selection import Selection, select

PLAIN = "plain"


@dataclass(frozen=True)
class Matrix:
    """AUC of one method: trained on (rows), tested on (columns).

    Attributes:
        method: its name.
        train_sites: labels of the rows.
        test_sites: of the columns.
        seeds: that are in it.
        values: ``(rows, columns)``, mean over the seeds; NaN where a cell is missing.
        deviations: ``(rows, columns)``, standard deviation over the seeds (n - 1).
        seen: ``(rows, columns)``, where the test site is among the training sites.
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
    """What a method is better by, paired: same training site, seed and test cases.

    Attributes:
        value: mean difference of AUC.
        low: lower end of the 95 % interval over resampled subjects.
        high: upper end.
        low_with_seeds: lower end where seeds are resampled too.
        high_with_seeds: upper end.
        cells: pairs that are in it.
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
"""(training, method, seed, test site) -> the cell that counts there."""


def choose(records: Sequence[CellRecord], sites: Sequence[str], selection: Selection) -> Chosen:
    """Return the cell that counts for each training, method, seed and test site.

    Raises:
        UsageError: where the selection cannot choose.
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

    Args:
        records: of a sweep.
        sites: the columns.
        selection: of settings, where there are several.

    Raises:
        UsageError: where the selection cannot choose.
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
    """Return what a method is better by than another, over cells that both have.

    The mean of AUC(method) - AUC(base) over pairs of the same training, seed and test site. Whole
    subjects of each test site are resampled: the same ones for all cells of that site, others at
    other sites.

    Args:
        chosen: of :func:`choose`.
        method: the one.
        other_sites: over test sites that were not trained on; False: over those that were.
        base: the other.
        repeats: resamples.

    Raises:
        UsageError: where the two were tested on different cases.
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
    draws = np.stack([_draws(site, a, b, repeats) for site, _, a, b in pairs])
    low, high = _interval(draws.mean(axis=0))
    seeds = np.array([seed for _, seed, _, _ in pairs])
    low_seeds, high_seeds = _interval(_seeds_resampled(draws, seeds))
    return Gain(float(np.mean(values)), low, high, low_seeds, high_seeds, len(pairs))


def _draws(site: str, a: CellRecord, b: CellRecord, repeats: int) -> Floats:
    """Return the difference on each resample of the site's subjects."""
    one, other = a.predictions.of_site(site), b.predictions.of_site(site)
    if not np.array_equal(one.volume_id, other.volume_id):
        raise UsageError(
            f"{a.name} and {b.name} were tested on different cases of {site}: they are not of one "
            "sweep."
        )
    names = zip(one.subject.tolist(), one.volume_id.tolist(), strict=True)
    # Unknown subjects cannot be resampled together: each case then stands for itself.
    subjects = [subject or f"case {name}" for subject, name in names]
    # With one seed for all sites, subjects of equal rank would be drawn together everywhere.
    seed = crc32(site.encode())
    found = [
        AUC(one.label, one.score, weights) - AUC(other.label, other.score, weights)
        for weights in subject_weights(subjects, repeats, seed)
    ]
    return np.concatenate(found)


def _seeds_resampled(draws: Floats, seeds: np.ndarray[tuple[int], np.dtype[np.int_]]) -> Floats:
    """Return the mean over the pairs of seeds that are drawn anew for each resample."""
    names = np.unique(seeds)
    by_seed = np.stack([draws[seeds == name].mean(axis=0) for name in names])
    drawn = np.random.default_rng(0).integers(len(names), size=(len(names), draws.shape[1]))
    found: Floats = np.take_along_axis(by_seed, drawn, axis=0).mean(axis=0)
    return found


def _interval(draws: Floats) -> tuple[float, float]:
    kept = draws[~np.isnan(draws)]
    if kept.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [0.025, 0.975])
    return float(low), float(high)


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
    """Return the mean; of missing cells none is made."""
    return float(values.mean()) if values.size else float("nan")


def _mean_of_rows(values: Floats) -> Floats:
    found: Floats = values.mean(axis=1)
    return found
