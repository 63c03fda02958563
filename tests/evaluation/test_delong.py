from __future__ import annotations

import numpy as np
import pytest

from ppi_med.evaluation.bootstrap import bootstrap
from ppi_med.evaluation.metrics import AUC
from ppi_med.evaluation.roc import DeLong, delong_test, mean_of_folds
from tests.evaluation.test_roc import sample


def slow_components(labels, scores):
    """The placement values of the paper, pair by pair."""

    def psi(x, y):
        return 1.0 if y < x else 0.5 if y == x else 0.0

    positive = [s for s, y in zip(scores, labels, strict=True) if y == 1]
    negative = [s for s, y in zip(scores, labels, strict=True) if y == 0]
    v10 = [sum(psi(x, y) for y in negative) / len(negative) for x in positive]
    v01 = [sum(psi(x, y) for x in positive) / len(positive) for y in negative]
    return np.array(v10), np.array(v01)


def slow_variance(labels, a, b=None):
    v10, v01 = slow_components(labels, a)
    if b is not None:
        w10, w01 = slow_components(labels, b)
        v10, v01 = v10 - w10, v01 - w01
    return v10.var(ddof=1) / v10.size + v01.var(ddof=1) / v01.size


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_variance_equals_the_paper_pair_by_pair(seed, levels):
    labels, scores = sample(seed, levels=levels)
    other = np.random.default_rng(seed + 50).normal(size=labels.size)
    expected = slow_variance(labels, scores, other)
    assert delong_test(labels, scores, other).variance == pytest.approx(expected)


def test_difference_equals_the_variance_of_the_differences():
    labels, a = sample(0, levels=3)
    b = a + np.random.default_rng(3).normal(size=a.size)
    found = delong_test(labels, a, b)
    assert found.difference == pytest.approx(float(AUC(labels, a) - AUC(labels, b)))
    assert found.variance == pytest.approx(slow_variance(labels, a, b))


def test_it_agrees_with_the_bootstrap_where_each_subject_has_one_case():
    labels, a = sample(1, n=200)
    b = a + np.random.default_rng(3).normal(size=a.size)
    found = delong_test(labels, a, b)
    resampled = bootstrap(AUC, labels, a, np.arange(200), b, repeats=2000)
    width = 2 * 1.96 * np.sqrt(found.variance)
    assert resampled.high - resampled.low == pytest.approx(width, rel=0.15)


def test_the_same_scores_do_not_differ():
    labels, a = sample(2)
    assert delong_test(labels, a, a).p_value == 1.0


def test_a_class_of_one_is_refused():
    with pytest.raises(ValueError, match="single case"):
        delong_test([0, 0, 1], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3])


def test_the_mean_of_folds_has_the_error_of_a_mean() -> None:
    """Drawn again and again, the variance of the mean difference is what the test says."""
    rng = np.random.default_rng(0)
    differences, variances = [], []
    for _ in range(300):
        folds = []
        for shift in (0.0, 5.0):  # the second fold's networks have another scale
            labels = np.repeat([0, 1], 30)
            signal = labels + shift
            scores = [signal + rng.normal(0, 1, 60) for _ in range(2)]
            folds.append(delong_test(labels, *scores))
        found = mean_of_folds(folds)
        differences.append(found.difference)
        variances.append(found.variance)
    assert np.var(differences) == pytest.approx(np.mean(variances), rel=0.2)


def test_one_fold_is_its_own_mean() -> None:
    one = DeLong(0.02, 0.0004, 0.3)
    assert mean_of_folds([one]).p_value == pytest.approx(0.31731, abs=1e-4)
    with pytest.raises(ValueError, match="no fold"):
        mean_of_folds([])
