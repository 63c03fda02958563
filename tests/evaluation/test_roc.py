from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from ppi_med.evaluation.roc import auc, roc_curve


def slow_auc(labels, scores, counts=None):
    """Count the pairs, one by one."""
    counts = [1] * len(labels) if counts is None else counts
    won = pairs = 0.0
    for y_i, s_i, c_i in zip(labels, scores, counts, strict=True):
        for y_j, s_j, c_j in zip(labels, scores, counts, strict=True):
            if y_i == 1 and y_j == 0:
                pairs += c_i * c_j
                won += c_i * c_j * (1.0 if s_i > s_j else 0.5 if s_i == s_j else 0.0)
    return won / pairs if pairs else float("nan")


def sample(seed, n=60, levels=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    labels[:2] = (0, 1)
    scores = rng.normal(labels * 0.7, 1.0)
    return labels, np.round(scores * levels) / levels if levels else scores


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_counting_pairs_and_sklearn(seed, levels):
    labels, scores = sample(seed, levels=levels)
    found = float(auc(labels, scores))
    assert found == pytest.approx(slow_auc(labels, scores), abs=1e-12)
    assert found == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_weights_count_cases_several_times():
    labels, scores = sample(3, levels=2)
    weights = np.random.default_rng(1).integers(0, 4, size=(5, labels.size))
    found = auc(labels, scores, weights)
    for row, value in zip(weights, found, strict=True):
        repeated = np.repeat(np.arange(labels.size), row)
        assert value == pytest.approx(slow_auc(labels[repeated], scores[repeated]), abs=1e-12)


def test_any_rising_change_of_scale_keeps_the_area():
    labels, scores = sample(4)
    assert float(auc(labels, np.exp(scores))) == float(auc(labels, scores))
    assert float(auc(labels, -scores)) == pytest.approx(1 - float(auc(labels, scores)), abs=1e-12)


def test_all_scores_equal_is_one_half():
    assert float(auc([0, 1, 0, 1, 1], [0.3] * 5)) == 0.5


def test_a_missing_class_is_nan_and_no_curve():
    assert np.isnan(auc([1, 1], [0.1, 0.2]))
    with pytest.raises(ValueError, match="All 2 cases have label 1"):
        roc_curve([1, 1], [0.1, 0.2])


@pytest.mark.parametrize("levels", [None, 2])
def test_curve_equals_sklearn_and_its_area(levels):
    labels, scores = sample(6, levels=levels)
    curve = roc_curve(labels, scores)
    false, true, cut = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, false, atol=1e-12)
    np.testing.assert_allclose(curve.sensitivity, true, atol=1e-12)
    np.testing.assert_allclose(curve.threshold[1:], cut[1:])
    area = np.trapezoid(curve.sensitivity, curve.false_positive_rate)
    assert area == pytest.approx(float(auc(labels, scores)), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 1], [0.1], "one length"),
        ([], [], "no cases"),
        ([0, 2], [0.1, 0.2], "expected 0 or 1"),
        ([0, 1], [0.1, np.nan], "1 of 2 scores are NaN"),
        ([[0, 1]], [[0.1, 0.2]], "one score per case"),
    ],
)
def test_wrong_input_is_named(labels, scores, words):
    with pytest.raises(ValueError, match=words):
        auc(labels, scores)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.inf]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weight"):
        auc([0, 1], [0.1, 0.2], weights)
