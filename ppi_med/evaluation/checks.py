"""The checks that every measure makes of its input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return labels and scores as float64 vectors of one length.

    Args:
        labels: `(n,)`, each 0 or 1.
        scores: `(n,)`, finite; larger means more likely 1.

    Raises:
        ValueError: for another shape, no cases, a label that is not 0 or 1, or a score that is
            NaN or infinite.
    """
    y = np.asarray(labels, dtype=np.float64)
    s = np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise ValueError(
            f"Got labels of shape {y.shape} and scores of shape {s.shape}, expected two vectors "
            "of one length: give one score per case."
        )
    if y.size == 0:
        raise ValueError("Got no cases, expected at least one: check what was selected.")
    if not np.isin(y, (0.0, 1.0)).all():
        wrong = np.unique(y[~np.isin(y, (0.0, 1.0))])[:5].tolist()
        raise ValueError(f"Got labels {wrong}, expected 0 or 1: map the classes before measuring.")
    bad = int((~np.isfinite(s)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {s.size} scores are NaN or infinite, expected finite ones: "
            "the network has probably diverged."
        )
    return y, s


def checked_weights(weights: ArrayLike | None, n: int) -> Floats:
    """Return weights `(..., n)` of the cases; ones where None is given.

    Raises:
        ValueError: if the last axis is not `n` long or a weight is negative or not finite.
    """
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim < 1 or w.shape[-1] != n:
        raise ValueError(f"Got weights of shape {w.shape}, expected (..., {n}): one per case.")
    if not (np.isfinite(w).all() and (w >= 0).all()):
        raise ValueError("Got a negative or non-finite weight, expected weights of 0 or more.")
    return w


def checked_probabilities(scores: Floats) -> Floats:
    """Return the scores where all are in [0, 1].

    Raises:
        ValueError: if one is outside.
    """
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(
            f"Got scores from {scores.min():.3g} to {scores.max():.3g}, expected probabilities "
            "in [0, 1]: calibration is not defined for logits."
        )
    return scores


def ratio(numerator: Any, denominator: Any) -> Floats:
    """Return the quotient, NaN where the denominator is 0."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    quotient = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient
