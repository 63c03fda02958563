"""The choice among several settings: named, separate, and blind to the test site by construction.

A selection gives each finished cell a score; among cells that differ only in their settings, the
one with the highest score is used for a test site. The default cannot see any test case; leaving
one site out cannot see the test site; the oracle does see it, and every table says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from ppi_med.errors import UsageError, require_known
from ppi_med.experiments.sweep_records import CellRecord


class Selection(ABC):
    """A rule to choose among settings.

    Attributes:
        name: its name on the command line.
        note: its description in tables.
        oracle: whether it looks at the test site: an upper bound, not a result.
    """

    name: str
    note: str
    oracle: bool = False

    @abstractmethod
    def score(self, record: CellRecord, test_site: str) -> float:
        """Return a cell's score for a test site; NaN if there is none."""


class InSiteValidation(Selection):
    """By the AUC on the validation subjects of the training sites, which a user would have."""

    name = "in-site"
    note = "settings chosen on the validation subjects of the training sites"

    def score(self, record: CellRecord, test_site: str) -> float:
        """Return the validation AUC."""
        return record.validation


class LeaveOneSiteOut(Selection):
    """By the mean AUC on the sites that are neither trained on nor the test site."""

    name = "leave-one-site-out"
    note = "settings chosen on sites that are neither trained on nor tested on"

    def score(self, record: CellRecord, test_site: str) -> float:
        """Return the mean over the other sites; NaN if there are no others."""
        others = [s for s in record.test_sites if s not in (*record.train_sites, test_site)]
        return float(np.mean([record.auc(site) for site in others])) if others else float("nan")


class Oracle(Selection):
    """By the AUC on the test site itself: an upper bound of any choice, never a result."""

    name = "oracle"
    note = "ORACLE: settings chosen on the test cases themselves; an upper bound, not a result"
    oracle = True

    def score(self, record: CellRecord, test_site: str) -> float:
        """Return the test AUC."""
        return record.auc(test_site)


SELECTIONS: dict[str, type[Selection]] = {
    one.name: one for one in (InSiteValidation, LeaveOneSiteOut, Oracle)
}


def selection_of(name: str) -> Selection:
    """Return a selection by its name.

    Raises:
        UsageError: if there is no selection of that name.

    Examples:
        >>> selection_of("oracle").oracle
        True
    """
    require_known("selection", name, SELECTIONS)
    return SELECTIONS[name]()


def select(records: Iterable[CellRecord], selection: Selection, test_site: str) -> list[CellRecord]:
    """Return one cell for each training, method, seed and fold: the best for a test site.

    Raises:
        UsageError: if there is a choice and the selection has no score for any of the cells.
    """
    groups: dict[tuple[object, ...], list[CellRecord]] = {}
    for record in records:
        key = (record.train_site, record.method, record.seed, record.fold)
        groups.setdefault(key, []).append(record)
    return [_best(group, selection, test_site) for group in groups.values()]


def _best(group: list[CellRecord], selection: Selection, test_site: str) -> CellRecord:
    if len(group) == 1:
        return group[0]
    ordered = sorted(group, key=lambda record: record.candidate)
    scores = np.array([selection.score(record, test_site) for record in ordered])
    if np.isnan(scores).all():
        raise UsageError(
            f"The selection {selection.name} cannot choose among {len(group)} settings of "
            f"{group[0].method} trained on {group[0].train_site} and tested on {test_site}: it "
            "needs a further site; use in-site."
        )
    return ordered[int(np.nanargmax(scores))]
