from __future__ import annotations

import numpy as np
import pytest

from ppi_med.evaluation.roc import (
    sensitivity,
    specificity,
    youden_threshold,
)
from tests.evaluation.test_roc import sample


def slow_rates(labels, scores, threshold):
    called = [s >= threshold for s in scores]
    hits = [c for c, y in zip(called, labels, strict=True) if y == 1]
    rests = [not c for c, y in zip(called, labels, strict=True) if y == 0]
    return sum(hits) / len(hits), sum(rests) / len(rests)


def candidates(scores):
    """A threshold in each gap between scores, and beyond both ends."""
    distinct = np.unique(scores)
    return [distinct[0] - 1, *((distinct[1:] + distinct[:-1]) / 2), distinct[-1] + 1]


@pytest.mark.parametrize("seed", range(4))
def test_rates_equal_counting(seed):
    labels, scores = sample(seed, levels=3)
    for threshold in (-1.0, 0.0, 1 / 3, 0.5, 2.0):
        expected = slow_rates(labels, scores, threshold)
        assert float(sensitivity(labels, scores, threshold)) == pytest.approx(expected[0])
        assert float(specificity(labels, scores, threshold)) == pytest.approx(expected[1])


def test_rates_with_weights_are_those_of_repeated_cases():
    labels, scores = sample(1)
    weights = np.random.default_rng(0).integers(0, 3, size=(4, labels.size))
    for row, value in zip(weights, sensitivity(labels, scores, 0.3, weights), strict=True):
        repeated = np.repeat(np.arange(labels.size), row)
        assert value == pytest.approx(slow_rates(labels[repeated], scores[repeated], 0.3)[0])


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(4))
def test_youden_is_the_best_of_all_gaps(seed, levels):
    labels, scores = sample(seed, levels=levels)
    best = max(sum(slow_rates(labels, scores, t)) for t in candidates(scores))
    found = youden_threshold(labels, scores)
    assert sum(slow_rates(labels, scores, found)) == pytest.approx(best)


def test_neighbouring_floats_do_not_merge():
    low = 1.0
    high = np.nextafter(low, 2.0)
    found = youden_threshold([0, 1], [low, high])
    assert low < found <= high
