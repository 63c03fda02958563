"""The table of the comparison, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppi_med.evaluation.bootstrap import subject_weights
from ppi_med.evaluation.checks import Floats
from ppi_med.experiments.map_comparison.measure import (
    AGREEMENT,
    ENERGY_ALL,
    ENERGY_TOP,
    POINTING,
    TOP,
    parsed,
)
from ppi_med.experiments.map_comparison.methods import METHODS, REFERENCE

Record = dict[str, Any]
DELETION_AREA, INSERTION_AREA, REDUCTION = "deletion_area", "insertion_area", "reduction"
REDUCTION_COUNT = 1000


@dataclass(frozen=True)
class Mean:
    """A mean over images with its 95 % interval, images resampled.

    Attributes:
        value: over the images where it is defined.
        low: 2.5th percentile of the resamples.
        high: 97.5th percentile.
        undefined: images where it is not.
        differs: the interval of the difference to the reference method, image by image, excludes
            0; None of the reference itself.
    """

    value: float
    low: float
    high: float
    undefined: int
    differs: bool | None = None


@dataclass(frozen=True)
class MethodResult:
    """All images of a method on a network: one vector a column."""

    network: str
    method: str
    values: dict[str, Floats]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(next(iter(self.values.values())))

    def curve(self, kind: str) -> tuple[list[int], Floats]:
        """Return the counts and the scores ``(N, K)`` of the ``deletion`` or ``insertion``."""
        names = [name for name in self.values if name.startswith(f"{kind}_")]
        counts = [int(name.rpartition("_")[2]) for name in names]
        return counts, np.stack([self.values[name] for name in names], axis=1)

    def quantity(self, name: str) -> Floats:
        """Return a column, an area or the reduction at 1000 points, ``(N,)``."""
        if name in (DELETION_AREA, INSERTION_AREA):
            counts, scores = self.curve(name.removesuffix("_area"))
            area = np.trapezoid(scores, counts, axis=1) / (counts[-1] - counts[0])
            return np.asarray(area)
        if name == REDUCTION:
            return self.values["deletion_0"] - self.values[f"deletion_{REDUCTION_COUNT}"]
        return self.values[name]


def results(records: Iterable[Record]) -> list[MethodResult]:
    """Join the records of each network and method, in the order of the methods.

    Records of which a part is missing are joined all the same: see ``images``.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["network"], record["method"]), []).append(record)
    found = []
    for (network, method), parts in groups.items():
        parts = sorted(parts, key=lambda part: int(part["first"]))
        rows = np.array([row for part in parts for row in parsed(part["rows"])])
        names = parts[0]["columns"].split(",")
        found.append(MethodResult(network, method, dict(zip(names, rows.T, strict=True))))
    return sorted(found, key=lambda r: (r.network, _place(r.method)))


def mean_of(values: Floats, reference: Floats | None = None, repeats: int = 2000) -> Mean:
    """Return the mean of ``(N,)`` values with its interval.

    Args:
        values: NaN where not defined.
        reference: of the reference method, on the same images.
        repeats: resamples.

    Examples:
        >>> mean_of(np.array([1.0, 3.0, np.nan])).value
        2.0
    """
    draws = np.concatenate([_means(values, w) for w in _weights(len(values), repeats)])
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    differs = None
    if reference is not None:
        gap = np.concatenate(
            [_means(values - reference, w) for w in _weights(len(values), repeats)]
        )
        below, above = np.nanpercentile(gap, [2.5, 97.5])
        differs = bool(below > 0 or above < 0)
    missing = int(np.isnan(values).sum())
    return Mean(float(np.nanmean(values)), float(low), float(high), missing, differs)


def _weights(images: int, repeats: int) -> Iterable[Floats]:
    return subject_weights(np.arange(images), repeats, seed=0)


def _means(values: Floats, weights: Floats) -> Floats:
    defined = ~np.isnan(values)
    total = weights[:, defined].sum(1)
    means: Floats = weights[:, defined] @ values[defined] / np.where(total > 0, total, np.nan)
    return means


QUANTITIES = {
    DELETION_AREA: "deletion, area ↓",
    REDUCTION: f"reduction at {REDUCTION_COUNT} ↑",
    INSERTION_AREA: "insertion, area ↑",
    ENERGY_TOP: f"energy in box, top {TOP} ↑",
    ENERGY_ALL: "energy in box, all ↑",
    POINTING: "pointing game ↑",
    AGREEMENT: "rank correlation with WBP",
}


def markdown(found: Sequence[MethodResult]) -> str:
    """Return the table in Markdown: all networks, a line a method."""
    titles = ["network", "method", *QUANTITIES.values()]
    text = ["| " + " | ".join(titles) + " |", "| " + " | ".join(["---"] * len(titles)) + " |"]
    for result in found:
        base = _reference(found, result)
        cells = [_cell(result, name, base) for name in QUANTITIES]
        short = "" if _complete(found, result) else f" ({result.images} images)"
        text.append("| " + " | ".join([result.network, result.method + short, *cells]) + " |")
    return "\n".join(text) + "\n"


def _complete(found: Sequence[MethodResult], result: MethodResult) -> bool:
    return result.images == max(r.images for r in found)


def _reference(found: Sequence[MethodResult], result: MethodResult) -> MethodResult | None:
    """Return the reference method's result on the same network and images."""
    for other in found:
        if (other.network, other.method) == (result.network, REFERENCE) and other is not result:
            return other if other.images == result.images else None
    return None


def _cell(result: MethodResult, name: str, base: MethodResult | None) -> str:
    values = result.quantity(name)
    if name == AGREEMENT:
        return f"{np.nanmean(values):.2f}"
    mean = mean_of(values, None if base is None else base.quantity(name))
    mark = "*" if mean.differs else ""
    missing = f" ({mean.undefined} undefined)" if mean.undefined else ""
    return f"{mean.value:.3f}{mark} [{mean.low:.3f}, {mean.high:.3f}]{missing}"


def _place(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)
