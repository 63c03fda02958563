from __future__ import annotations

import numpy as np
import pytest

from ppi_med.evaluation.bootstrap import (
    Part,
    bootstrap,
    interval,
    of_mean,
    of_metric,
    subject_weights,
)
from ppi_med.evaluation.metrics import AUC, BRIER, sensitivity_at
from tests.evaluation.test_roc import slow_auc


def cohort(seed, subjects=40, eyes=3, effect=1.0):
    """Subjects with several eyes that are alike."""
    rng = np.random.default_rng(seed)
    label = np.repeat(rng.integers(2, size=subjects), eyes)
    score = label * effect + np.repeat(rng.normal(size=subjects), eyes)
    return label, score + 0.1 * rng.normal(size=label.size), np.repeat(np.arange(subjects), eyes)


def test_a_subject_comes_whole():
    _, _, subjects = cohort(0)
    for weights in subject_weights(subjects, 20, seed=1):
        for subject in np.unique(subjects):
            of_one = weights[:, subjects == subject]
            assert (of_one == of_one[:, :1]).all()
        assert (weights.sum(axis=1) == subjects.size).all()


def test_weights_are_seeded_and_do_not_depend_on_the_batching(monkeypatch):
    _, _, subjects = cohort(0)
    whole = np.concatenate(list(subject_weights(subjects, 30, seed=4)))
    monkeypatch.setattr("ppi_med.evaluation.bootstrap._WEIGHTS_AT_ONCE", 7 * subjects.size)
    parts = list(subject_weights(subjects, 30, seed=4))
    assert len(parts) == 5
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(whole, np.concatenate(list(subject_weights(subjects, 30, seed=5))))


def test_interval_equals_measuring_each_resample_in_a_loop():
    labels, scores, subjects = cohort(2, subjects=15, eyes=2)
    found = bootstrap(AUC, labels, scores, subjects, repeats=60, seed=3)
    values = []
    for row in np.concatenate(list(subject_weights(subjects, 60, seed=3))):
        repeated = np.repeat(np.arange(labels.size), row.astype(int))
        values.append(slow_auc(labels[repeated], scores[repeated]))
    assert found.value == pytest.approx(slow_auc(labels, scores))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert found.subjects == 15


def test_more_eyes_of_the_same_subjects_do_not_narrow_the_interval():
    few = bootstrap(AUC, *cohort(7, eyes=1), repeats=400)
    many = bootstrap(AUC, *cohort(7, eyes=8), repeats=400)
    by_eye = bootstrap(AUC, *cohort(7, eyes=8)[:2], np.arange(320), repeats=400)
    assert many.high - many.low > 0.8 * (few.high - few.low)
    assert by_eye.high - by_eye.low < 0.6 * (many.high - many.low)


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth = 0.7592  # P(N(1, s) > N(0, s)) with s^2 = 1.01, as in the cohort above
    hits = 0
    for seed in range(200):
        found = bootstrap(AUC, *cohort(seed, subjects=80, eyes=2), repeats=300, seed=seed)
        hits += found.low <= truth <= found.high
    assert 0.90 <= hits / 200 <= 0.99


def test_resamples_without_a_class_are_counted():
    found = bootstrap(AUC, [0, 1, 1], [0.1, 0.2, 0.3], ["a", "b", "c"], repeats=200)
    assert 20 < found.dropped < 120


def test_a_difference_with_itself_is_zero_and_a_real_one_is_seen():
    labels, scores, subjects = cohort(1, subjects=80)
    noise = np.random.default_rng(5).normal(size=labels.size)
    same = bootstrap(AUC, labels, scores, subjects, scores, repeats=100)
    assert (same.value, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    worse = bootstrap(AUC, labels, scores, subjects, noise, repeats=500)
    assert worse.low > 0
    assert worse.p_value < 0.05
    back = bootstrap(AUC, labels, noise, subjects, scores, repeats=500)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-worse.value, -worse.high, -worse.low)
    )
    assert back.p_value == pytest.approx(worse.p_value)


def test_pairing_narrows_the_interval():
    labels, scores, subjects = cohort(3, subjects=60)
    other = scores + 0.05 * np.random.default_rng(2).normal(size=labels.size)
    paired = bootstrap(AUC, labels, scores, subjects, other, repeats=300)
    single = bootstrap(AUC, labels, scores, subjects, repeats=300)
    assert paired.high - paired.low < 0.3 * (single.high - single.low)


def test_other_metrics_go_through():
    labels, scores, subjects = cohort(1)
    probabilities = 1 / (1 + np.exp(-scores))
    assert bootstrap(BRIER, labels, probabilities, subjects, repeats=50).name == "brier"
    assert bootstrap(sensitivity_at(0.5), labels, probabilities, subjects, repeats=50).low < 1


@pytest.mark.parametrize(
    ("subjects", "words"),
    [(["a", "a"], "at least two"), (["a", ""], "name no subject"), (["a"], "one per case")],
)
def test_wrong_subjects_are_refused(subjects, words):
    with pytest.raises(ValueError, match=words):
        bootstrap(AUC, [0, 1], [0.1, 0.2], subjects)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="level"):
        bootstrap(AUC, [0, 1], [0.1, 0.2], ["a", "b"], level=95)
    with pytest.raises(ValueError, match="repeats"):
        bootstrap(AUC, [0, 1], [0.1, 0.2], ["a", "b"], repeats=0)
    with pytest.raises(ValueError, match="not defined on these 2 cases"):
        bootstrap(AUC, [1, 1], [0.1, 0.2], ["a", "b"])


def test_strata_are_drawn_on_their_own_and_their_parts_together():
    """The same cases in two strata are as good as twice as many; in one as good as one."""
    labels, scores, subjects = cohort(4)
    alone = interval([of_metric(AUC, labels, scores, subjects, "a")])
    both = [of_metric(AUC, labels, scores, subjects, stratum) for stratum in ("a", "b")]
    apart, together = interval(both), interval([both[0], both[0]])
    assert together == alone
    assert apart.value == alone.value
    ratio = (apart.high - apart.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(0.5**0.5, abs=0.08)


def test_seeds_are_drawn_too():
    """Two seeds that differ by 1: three resamples of seeds, whatever the subjects."""
    units = np.arange(30)
    parts = [of_mean(np.full(30, float(seed)), units, seed=seed) for seed in (0, 1)]
    fixed, drawn = (interval(parts, seeds=seeds, repeats=400) for seeds in (False, True))
    assert (fixed.low, fixed.high) == (0.5, 0.5)
    assert (drawn.value, drawn.low, drawn.high) == (0.5, 0.0, 1.0)


def test_an_interval_of_a_mean_equals_a_loop():
    values = np.array([0.2, 0.4, np.nan, 0.9, 0.1])
    units = ["a", "a", "b", "b", "c"]
    found = interval([of_mean(values, units)], repeats=50, seed=2)
    draws = []
    for row in np.concatenate(list(subject_weights(units, 50, seed=2))):
        repeated = np.repeat(values, row.astype(int))
        if not np.isnan(repeated).all():
            draws.append(np.nanmean(repeated))
    assert found.value == pytest.approx(np.nanmean(values))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_parts_of_other_cases_are_not_drawn_together():
    parts = [of_mean([1.0, 2.0], ["a", "b"]), of_mean([1.0, 2.0], ["a", "c"])]
    with pytest.raises(ValueError, match="other cases"):
        interval(parts)
    with pytest.raises(ValueError, match="Got 0 parts"):
        interval([])


def test_one_subject_gives_a_value_and_no_ends():
    found = interval([of_mean([0.2, 0.4], ["a", "a"])])
    assert found.value == pytest.approx(0.3) and np.isnan([found.low, found.high]).all()
    assert isinstance(of_mean([1.0], ["a"]), Part)
