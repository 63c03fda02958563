from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from ppi_med.evaluation.metrics import brier, calibration_error


def sample(seed, n=200):
    rng = np.random.default_rng(seed)
    probabilities = rng.random(n)
    return (rng.random(n) < probabilities**1.5).astype(int), probabilities


def slow_error(labels, probabilities, bins):
    total = 0.0
    for k in range(bins):
        low, high = k / bins, (k + 1) / bins
        inside = [
            i
            for i, p in enumerate(probabilities)
            if low <= p < high or (k == bins - 1 and p == 1.0)
        ]
        if inside:
            mean_p = sum(probabilities[i] for i in inside) / len(inside)
            mean_y = sum(labels[i] for i in inside) / len(inside)
            total += len(inside) / len(labels) * abs(mean_y - mean_p)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_brier_equals_sklearn(seed):
    labels, probabilities = sample(seed)
    assert float(brier(labels, probabilities)) == pytest.approx(
        brier_score_loss(labels, probabilities)
    )


@pytest.mark.parametrize("bins", [1, 7, 10])
@pytest.mark.parametrize("seed", range(3))
def test_error_equals_the_loop_over_bins(seed, bins):
    labels, probabilities = sample(seed)
    probabilities[:3] = (0.0, 1.0, 0.5)
    assert float(calibration_error(labels, probabilities, bins=bins)) == pytest.approx(
        slow_error(labels, probabilities, bins)
    )


def test_error_with_weights_is_that_of_repeated_cases():
    labels, probabilities = sample(5)
    weights = np.random.default_rng(0).integers(0, 3, size=(3, labels.size))
    for row, value in zip(weights, calibration_error(labels, probabilities, weights), strict=True):
        repeated = np.repeat(np.arange(labels.size), row)
        assert value == pytest.approx(slow_error(labels[repeated], probabilities[repeated], 10))


def test_perfect_calibration_has_no_error_and_a_shift_shows():
    rng = np.random.default_rng(0)
    probabilities = rng.random(200_000)
    labels = (rng.random(200_000) < probabilities).astype(int)
    assert float(calibration_error(labels, probabilities)) < 0.01
    shifted = np.clip(probabilities + 0.2, 0, 1)
    assert float(calibration_error(labels, shifted)) > 0.1


def test_logits_are_refused():
    for measure in (brier, calibration_error):
        with pytest.raises(ValueError, match="not defined for logits"):
            measure([0, 1], [-3.0, 2.0])


def test_unknown_bins_are_refused():
    with pytest.raises(ValueError, match="width"):
        calibration_error([0, 1], [0.1, 0.9], by="size")
    with pytest.raises(ValueError, match="at least one"):
        calibration_error([0, 1], [0.1, 0.9], bins=0)
