"""Selections, on records made by hand: each sees what it may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ppi_med.errors import UsageError
from ppi_med.experiments.matrix import matrices
from ppi_med.experiments.selection import (
    SELECTIONS,
    InSiteValidation,
    LeaveOneSiteOut,
    Oracle,
    Selection,
    select,
    selection_of,
)
from ppi_med.experiments.sweep import _publish
from ppi_med.experiments.sweep_records import CellRecord
from ppi_med.experiments.sweep_tables import cross_site_tables
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


@pytest.mark.parametrize("selection", [InSiteValidation(), LeaveOneSiteOut(), Oracle()])
def test_the_parent_run_has_the_means_of_the_selection_that_was_asked_for(
    selection: Selection,
) -> None:
    """Another setting is the best for each rule: its means are those of the tables beside them."""
    logged: dict[str, float] = {}
    tags: dict[str, str] = {}

    class Client:
        def log_batch(self, run_id: str, metrics: list[Any]) -> None:
            logged.update({metric.key: metric.value for metric in metrics})

        def set_tag(self, run_id: str, name: str, value: str) -> None:
            tags[name] = value

        def log_dict(self, run_id: str, dictionary: dict[str, Any], artifact_file: str) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ppi_med.experiments.sweep._describe", lambda *_: None)
        _publish(Client(), sweep(), three(), [], selection)
    (matrix,) = matrices(three(), SITES, selection)
    prefix = "oracle/" if selection.oracle else ""
    assert logged == {
        f"{prefix}other_sites/x": matrix.other_sites,
        f"{prefix}same_site/x": matrix.same_site,
    }
    assert tags["sweep.selection"] == selection.name
    (summary, *_) = cross_site_tables(sweep(), three(), selection, repeats=5)
    assert summary.rows[0][1].value == pytest.approx(matrix.other_sites)
