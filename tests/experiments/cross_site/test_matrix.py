"""The matrix and its gains against loops that count pairs one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ppi_med.errors import UsageError
from ppi_med.evaluation.predictions import Predictions
from ppi_med.experiments.matrix import choose, fold_results, gain, matrices, methods_of
from ppi_med.experiments.selection import InSiteValidation
from tests.experiments.cross_site.made import SITES, record, slow_auc, whole

RULE = InSiteValidation()


def test_each_cell_is_the_mean_of_its_seeds() -> None:
    cells = whole({"plain": 0.5, "ppi_x": 2.0})
    plain, ppi = matrices(cells, SITES, RULE)
    assert (plain.method, ppi.method) == ("plain", "ppi_x")
    for one in (plain, ppi):
        for i, train in enumerate(SITES):
            for j, test in enumerate(SITES):
                values = [
                    slow_auc(r.predictions.of_site(test))
                    for r in cells
                    if r.train_site == train and r.method == one.method
                ]
                assert one.values[i, j] == pytest.approx(np.mean(values))
                assert one.deviations[i, j] == pytest.approx(np.std(values, ddof=1))
                assert one.seen[i, j] == (train == test)
    outside = [ppi.values[i, j] for i in range(3) for j in range(3) if i != j]
    assert ppi.other_sites == pytest.approx(np.mean(outside))
    assert ppi.same_site == pytest.approx(np.mean(np.diag(ppi.values)))
    assert ppi.row_means == pytest.approx([np.mean(row) for row in ppi.values])
    assert ppi.row_deviations == pytest.approx([np.std(row, ddof=1) for row in ppi.values])


def test_a_gain_pairs_training_seed_and_cases() -> None:
    cells = whole({"plain": 0.5, "ppi_x": 2.0}, seeds=(0, 1, 2))
    chosen = choose(cells, SITES, RULE)
    found = gain(chosen, "ppi_x", True, repeats=200)
    by_key = {(r.train_site, r.method, r.seed): r for r in cells}
    differences = [
        slow_auc(by_key[a, "ppi_x", s].predictions.of_site(b))
        - slow_auc(by_key[a, "plain", s].predictions.of_site(b))
        for a in SITES
        for b in SITES
        for s in (0, 1, 2)
        if a != b
    ]
    assert found.value == pytest.approx(np.mean(differences))
    assert found.cells == len(differences) == 18
    assert found.low < found.value < found.high
    assert gain(chosen, "ppi_x", False, repeats=50).cells == 9
    assert gain(chosen, "absent", True).cells == 0


def test_the_interval_resamples_whole_subjects_of_all_cells_together() -> None:
    cells = [r for r in whole({"plain": 0.5, "ppi_x": 2.0}, seeds=(0,)) if r.train_site == "site_a"]
    chosen = choose(cells, SITES, RULE)
    found = gain(chosen, "ppi_x", True, repeats=2000)
    rng = np.random.default_rng(7)
    one = {r.method: r for r in cells}
    draws = []
    for _ in range(250):
        differences = []
        for site in ("site_b", "site_c"):
            a, b = (one[m].predictions.of_site(site) for m in ("ppi_x", "plain"))
            names = sorted(set(a.subject.tolist()))
            drawn = [names[k] for k in rng.integers(len(names), size=len(names))]
            differences.append(slow_auc(a, drawn) - slow_auc(b, drawn))
        draws.append(np.mean(differences))
    low, high = np.nanquantile(draws, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.05)
    assert found.high == pytest.approx(high, abs=0.05)


def renamed(found: Predictions, old: str, new: str) -> Predictions:
    """The same cases under other names."""
    names = (
        np.array([name.replace(old, new) for name in values.tolist()])
        for values in (found.volume_id, found.subject, found.site)
    )
    return Predictions(*names, found.label, found.score)


def joined(parts: list[Predictions]) -> Predictions:
    fields = ("volume_id", "subject", "site", "label", "score")
    return Predictions(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def test_subjects_of_other_sites_are_drawn_on_their_own() -> None:
    """The same cases at two sites: as good as twice as many; with two seeds as good as one."""
    cells = [
        record("site_a", method, 0, {"site_b": strength})
        for method, strength in {"plain": 0.5, "ppi_x": 2.0}.items()
    ]
    twice = [
        replace(
            one,
            predictions=joined([one.predictions, renamed(one.predictions, "site_b", "site_c")]),
            _aucs={},
        )
        for one in cells
    ]
    again = [replace(one, seed=1, name=f"again-{one.name}", _aucs={}) for one in cells]
    alone, two_sites, two_seeds = (
        gain(choose(records, sites, RULE), "ppi_x", True)
        for records, sites in (
            (cells, ["site_b"]),
            (twice, ["site_b", "site_c"]),
            ([*cells, *again], ["site_b"]),
        )
    )
    assert two_sites.value == alone.value == two_seeds.value
    assert (two_seeds.low, two_seeds.high) == (alone.low, alone.high)
    assert (two_sites.high - two_sites.low) / (alone.high - alone.low) == pytest.approx(
        0.5**0.5, abs=0.08
    )


def test_subjects_of_other_folds_are_drawn_on_their_own() -> None:
    first = [
        record("all", method, 0, {"site_b": strength}, fold=0)
        for method, strength in {"plain": 0.5, "ppi_x": 2.0}.items()
    ]
    second = [
        replace(
            one,
            name=f"second-{one.name}",
            fold=1,
            predictions=renamed(one.predictions, "site_b", "site_c"),
            _aucs={},
        )
        for one in first
    ]
    (_, one), (_, both) = fold_results(first, RULE), fold_results([*first, *second], RULE)
    assert both.gain == one.gain
    assert (both.high - both.low) / (one.high - one.low) == pytest.approx(0.5**0.5, abs=0.08)


def test_a_method_equal_to_plain_gains_nothing() -> None:
    plain = whole({"plain": 1.0})
    same = [replace(r, method="ppi_same", name=f"x{r.name}", _aucs={}) for r in plain]
    found = gain(choose(plain + same, SITES, RULE), "ppi_same", True, repeats=50)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_other_cases_are_not_compared() -> None:
    cells = whole({"plain": 1.0, "ppi_x": 1.0}, seeds=(0,))
    odd = cells[0].predictions
    cells[0] = replace(cells[0], predictions=odd.where(odd.volume_id != odd.volume_id[5]), _aucs={})
    with pytest.raises(UsageError, match="different cases"):
        gain(choose(cells, SITES, RULE), "ppi_x", False, repeats=10)


def test_a_missing_cell_is_missing_and_makes_no_mean() -> None:
    cells = [r for r in whole({"plain": 1.0}) if r.train_site != "site_b"]
    (one,) = matrices(cells, SITES, RULE)
    assert one.train_sites == ("site_a", "site_c")
    partial = [
        r for r in whole({"plain": 1.0, "x": 1.0}) if (r.method, r.train_site) != ("x", "site_b")
    ]
    _, x = matrices(partial, SITES, RULE)
    assert np.isnan(x.values[1]).all() and np.isnan(x.other_sites)


def test_several_training_sites_are_seen() -> None:
    quality = dict.fromkeys(SITES, 2.0)
    cells = [record("site_b+site_c", "plain", 0, quality, train_sites=("site_b", "site_c"))]
    (one,) = matrices(cells, SITES, RULE)
    assert one.seen.tolist() == [[False, True, True]]


def test_plain_comes_first_and_ppi_last() -> None:
    cells = whole({"ppi_wbp": 1, "irm": 1, "plain": 1, "random_mask": 1}, seeds=(0,))
    assert methods_of(cells) == ["plain", "irm", "random_mask", "ppi_wbp"]


def test_folds() -> None:
    quality = dict.fromkeys(SITES, 2.0)
    cells = [
        record("all", method, seed, quality, fold=fold, candidate=f"f{fold}")
        for method in ("plain", "ppi_x")
        for seed in (0, 1)
        for fold in (0, 1, 2)
    ]
    plain, ppi = fold_results(cells, RULE, repeats=50)
    for one in (plain, ppi):
        for fold in (0, 1, 2):
            own = [r for r in cells if r.method == one.method and r.fold == fold]
            values = [slow_auc(r.predictions) for r in own]
            assert one.folds[fold] == pytest.approx(np.mean(values))
        assert one.mean == pytest.approx(np.mean(list(one.folds.values())))
    assert np.isnan(plain.gain)
    assert ppi.gain == pytest.approx(ppi.mean - plain.mean)
    assert ppi.low <= ppi.gain <= ppi.high
