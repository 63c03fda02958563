"""Selections, on records made by hand: each sees what it may see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ppi_med.errors import UsageError
from ppi_med.experiments.cross_site.matrix import matrices
from ppi_med.experiments.cross_site.records import CellRecord
from ppi_med.experiments.cross_site.report import cross_site_tables
from ppi_med.experiments.cross_site.selection import (
    SELECTIONS,
    InSiteValidation,
    LeaveOneSiteOut,
    Oracle,
    select,
    selection_of,
)
from tests.experiments.cross_site.made import SITES, record, sweep


def three() -> list[CellRecord]:
    """Three settings: best in validation, best on site_b, best on site_c."""
    return [
        record("site_a", "x", 0, {"site_a": 3, "site_b": -9, "site_c": -9}, candidate="v",
               validation=0.99),
        record("site_a", "x", 0, {"site_a": 3, "site_b": 9, "site_c": -9}, candidate="b",
               validation=0.8),
        record("site_a", "x", 0, {"site_a": 3, "site_b": -9, "site_c": 9}, candidate="c",
               validation=0.7),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "for_b", "for_c"),
    [(InSiteValidation(), "v", "v"), (LeaveOneSiteOut(), "c", "b"), (Oracle(), "b", "c")],
)
def test_what_is_chosen(selection: object, for_b: str, for_c: str) -> None:
    for site, expected in (("site_b", for_b), ("site_c", for_c)):
        (chosen,) = select(three(), selection, site)
        assert chosen.candidate == expected


@pytest.mark.parametrize("name", ["in-site", "leave-one-site-out"])
def test_a_selection_cannot_see_the_test_site(name: str) -> None:
    """Whatever the scores at the test site are: the choice stays."""
    rng = np.random.default_rng(0)
    for site in SITES:
        before = [r.candidate for r in select(three(), selection_of(name), site)]
        for _ in range(5):
            changed = []
            for one in three():
                scores = one.predictions.score.copy()
                there = one.predictions.site == site
                scores[there] = rng.random(there.sum())
                changed.append(
                    replace(one, predictions=replace(one.predictions, score=scores), _aucs={})
                )
            assert [r.candidate for r in select(changed, selection_of(name), site)] == before


def test_the_oracle_sees_it_and_is_marked_in_every_table() -> None:
    for table in cross_site_tables(sweep(), three(), Oracle(), repeats=10):
        assert table.name.startswith("oracle_") and table.title.startswith("ORACLE")
        assert any("ORACLE" in note for note in table.notes)
    for table in cross_site_tables(sweep(), three(), InSiteValidation(), repeats=10):
        assert "oracle" not in table.name
        assert any("validation subjects of the training sites" in note for note in table.notes)


def test_seeds_and_trainings_are_chosen_apart() -> None:
    cells = [*three(), *(replace(one, seed=1, _aucs={}) for one in three())]
    assert len(select(cells, InSiteValidation(), "site_b")) == 2
    (one,) = matrices(cells, SITES, Oracle())
    assert one.values[0, 1] > 0.9 and one.values[0, 2] > 0.9


def test_without_a_further_site_leaving_one_out_is_refused() -> None:
    two = [replace(one, train_sites=("site_a", "site_c"), _aucs={}) for one in three()]
    with pytest.raises(UsageError, match="needs a further site"):
        select(two, LeaveOneSiteOut(), "site_b")
    # Where there is nothing to choose, nothing is asked.
    assert select(two[:1], LeaveOneSiteOut(), "site_b") == two[:1]


def test_names() -> None:
    assert [selection_of(name).oracle for name in SELECTIONS] == [False, False, True]
    with pytest.raises(UsageError, match="in-site, leave-one-site-out, oracle"):
        selection_of("best")
