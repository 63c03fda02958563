r"""Evidence from the data alone: how well values that are not the disease predict the label.

Each measure is the AUC of out-of-fold predictions, patients kept together, with an interval from
resampled patients. Parts of the image are read by ridge regression on small pixels,

.. math:: w = (X^\top X + 0.1\, \tfrac{\mathrm{tr}(X^\top X)}{d} I)^{-1} X^\top y

header values one by one, by their frequency in each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ppi_med.audit.pixels import Floats as Small
from ppi_med.audit.pixels import Loaded, Scale, resized
from ppi_med.audit.sources import folds
from ppi_med.evaluation.bootstrap import interval, of_metric
from ppi_med.evaluation.metrics import AUC

Floats = NDArray[np.float64]
Level = Literal["none", "look", "shortcut"]
GRID = 8
RING = 0.12
_FOLDS = 5
_RIDGE = 0.1
_REPEATS, _CELL_REPEATS = 500, 40
_WEIGHTS = 3_000_000
"""Weights of all resamples together: more cases have fewer resamples."""
_BINS = 8
_RINGS = 16
_MOST_CLASSES = 10
_SAMPLED_VALUES = 16_384
# Lower end of the AUC from which a measure is worth a look, and from which it is a shortcut. A
# header says nothing of disease; parts and grey values may, so their limits are higher.
_LIMITS: Mapping[str, tuple[float, float]] = {
    "header": (0.60, 0.75),
    "file": (0.75, 0.95),
    "around": (0.70, 0.85),
    "around, summed up": (0.70, 0.90),
    "image": (0.85, 2.0),
}
_SHARE = 0.8
"""Of what the whole image tells: a surrounding that tells as much is enough by itself."""


@dataclass(frozen=True)
class Measure:
    """One predictor of the label.

    Attributes:
        name: such as "ring".
        group: `header`, `file`, `around` (the surroundings, and these summed up), `image`
            (all of it, or its middle).
        auc: AUC of out-of-fold predictions; with more than two classes the mean of one against
            rest.
        low: lower end of its 95 % interval.
        high: upper end.
        share: (AUC - 0.5) / (best AUC of the whole image - 0.5); None of header and file.
        level: `none`, `look` or `shortcut`, by the rule.
    """

    name: str
    group: str
    auc: float
    low: float
    high: float
    share: float | None = None
    level: Level = "none"


@dataclass(frozen=True)
class Evidence:
    """All evidence from the data alone.

    Attributes:
        measures: in the order of the page.
        cells: AUC of an 8 x 8 grid of cells, `(8, 8)`.
        cells_low: lower ends.
        cells_high: upper ends.
        reasons: reasons for a shortcut: name of each measure that says so.
    """

    measures: tuple[Measure, ...]
    cells: Floats
    cells_low: Floats
    cells_high: Floats

    @property
    def reasons(self) -> tuple[str, ...]:
        """Names of the measures that are a shortcut by the rule."""
        return tuple(m.name for m in self.measures if m.level == "shortcut")

    def rows(self) -> list[dict[str, Any]]:
        """Return the measures as JSON values."""
        return [asdict(measure) for measure in self.measures]


class Collector:
    """Reads cases one by one and keeps what the measures need, but no picture."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.side = 32 if scale.channels == 1 else 24
        self.small: list[Small] = []
        self.values: dict[str, list[Floats]] = {"grey": [], "ring": [], "spectrum": [], "edge": []}
        self.header: list[dict[str, str | float]] = []
        self.file: list[dict[str, str | float]] = []

    def add(self, loaded: Loaded, slices: Small) -> None:
        """Keep the values of a case that are needed; `slices` are those of `Scale.slices`."""
        mean = slices.mean(axis=0)
        self.small.append(resized(mean, (self.side, self.side)))
        every = max(1, len(slices) // 6)
        some = slices[::every]
        self.values["grey"].append(_grey(some.reshape(-1, some.shape[-1])))
        around = ring_mask(*some.shape[1:3])
        self.values["ring"].append(_grey(some[:, around].reshape(-1, some.shape[-1])))
        self.values["spectrum"].append(np.mean([_spectrum(s.mean(-1)) for s in some], axis=0))
        height, width = (max(4, n // 4) for n in some.shape[1:3])
        tiles = [
            s[rows, columns].mean(-1)
            for s in some
            for rows in (slice(0, height), slice(-height, None))
            for columns in (slice(0, width), slice(-width, None))
        ]
        self.values["edge"].append(np.mean([_spectrum(tile) for tile in tiles], axis=0))
        self.header.append(loaded.header)
        self.file.append(loaded.file)

    def evidence(self, label: NDArray[np.int64], patient: Sequence[str]) -> Evidence:
        """Measure everything; label and patient are those of the added cases."""
        judge = _Judge(label, patient)
        parts, cells = judge.parts(np.stack(self.small))
        sums = {
            key: judge.ridge(_standard(np.stack(values)), 1e-3)
            for key, values in self.values.items()
        }
        wholes = (parts["whole image"], sums["grey"], sums["spectrum"])
        top = max(judge.interval(scores, 1)[0] for scores in wholes)
        measures = [
            judge.measure(name, group, scores, top)
            for name, group, scores in (
                ("whole image", "image", parts["whole image"]),
                ("grey values of the whole image", "image", sums["grey"]),
                ("spectrum of the whole image", "image", sums["spectrum"]),
                ("middle", "image", parts["middle"]),
                ("all but the ring", "image", parts["all but the ring"]),
                ("ring", "around", parts["ring"]),
                ("corners", "around", parts["corners"]),
                ("grey values of the ring", "around, summed up", sums["ring"]),
                ("spectrum of the corners", "around, summed up", sums["edge"]),
            )
        ]
        for group, table in (("header", self.header), ("file", self.file)):
            measures += judge.values(group, table)
        bounds = [judge.interval(scores, _CELL_REPEATS) for scores in cells]
        grids = np.array(bounds).reshape(GRID, GRID, 3)
        return Evidence(tuple(measures), grids[..., 0], grids[..., 1], grids[..., 2])


def ring_mask(height: int, width: int) -> NDArray[np.bool_]:
    """Return the outer 12 % of an image, bool `(H, W)`.

    >>> int(ring_mask(8, 8).sum())
    28
    """
    mask = np.ones((height, width), bool)
    rows, columns = max(1, round(RING * height)), max(1, round(RING * width))
    mask[rows:-rows, columns:-columns] = False
    return mask


def part_masks(side: int) -> dict[str, NDArray[np.bool_]]:
    """Return the parts of a small square image, bool `(side, side)` each."""
    ring = ring_mask(side, side)
    corner, quarter = side // 5, side // 4
    corners = np.zeros((side, side), bool)
    for rows in (slice(0, corner), slice(-corner, None)):
        for columns in (slice(0, corner), slice(-corner, None)):
            corners[rows, columns] = True
    middle = np.zeros((side, side), bool)
    middle[quarter:-quarter, quarter:-quarter] = True
    return {
        "whole image": np.ones((side, side), bool),
        "middle": middle,
        "all but the ring": ~ring,
        "ring": ring,
        "corners": corners,
    }


class _Judge:
    def __init__(self, label: NDArray[np.int64], patient: Sequence[str]) -> None:
        self.label, self.patient = label, list(patient)
        self.classes = int(label.max()) + 1
        self.fold = folds(label, self.patient, _FOLDS)
        one_hot = np.eye(self.classes)[label]
        self.target = one_hot[:, 1:] if self.classes == 2 else one_hot
        self.repeats = max(100, min(_REPEATS, _WEIGHTS // len(label)))

    def parts(self, small: Small) -> tuple[dict[str, Floats], list[Floats]]:
        """Return the scores of each part and of each cell of the grid."""
        side, channels = small.shape[1], small.shape[-1]
        flat = small.reshape(len(small), -1).astype(np.float64)
        ridge = _FoldRidge(flat, self.target, self.fold)

        def scores(mask: NDArray[np.bool_]) -> Floats:
            return ridge.scores(np.repeat(mask.ravel(), channels))

        step = side // GRID
        cells = []
        for row in range(GRID):
            for column in range(GRID):
                mask = np.zeros((side, side), bool)
                mask[row * step : (row + 1) * step, column * step : (column + 1) * step] = True
                cells.append(scores(mask))
        return {name: scores(mask) for name, mask in part_masks(side).items()}, cells

    def ridge(self, values: Floats, strength: float) -> Floats:
        everything = np.ones(values.shape[1], bool)
        return _FoldRidge(values, self.target, self.fold).scores(everything, strength)

    def interval(self, scores: Floats, repeats: int = _REPEATS) -> tuple[float, float, float]:
        """Return AUC and interval; for more than two classes the mean of one against the rest."""
        columns = range(self.classes) if scores.shape[1] > 1 else [1]
        most = sorted(columns, key=lambda k: -int((self.label == k).sum()))[:_MOST_CLASSES]
        parts = []
        for k in most:
            own = (self.label == k).astype(np.int64)
            score = scores[:, k if scores.shape[1] > 1 else 0]
            parts.append(of_metric(AUC, own, score, self.patient))
        found = interval(parts, repeats=min(repeats, self.repeats))
        return found.value, found.low, found.high

    def measure(self, name: str, group: str, scores: Floats, top: float | None = None) -> Measure:
        """Return a measure; `top` is the AUC of the whole image."""
        value, low, high = self.interval(scores)
        share = (value - 0.5) / (top - 0.5) if top is not None and top > 0.52 else None
        return Measure(name, group, value, low, high, share, _level(name, group, low, share))

    def values(self, group: str, table: Sequence[Mapping[str, str | float]]) -> list[Measure]:
        """Return a measure for each header value that varies, and one for all together."""
        names = sorted({name for row in table for name in row})
        found, odds = [], []
        for name in names:
            codes = _coded([row.get(name) for row in table])
            if codes is None:
                continue
            odds.append(self._odds(codes))
            found.append(self.measure(name, group, self._columns(odds[-1])))
        found.sort(key=lambda m: -m.auc)
        if len(found) > 1:
            together = self._columns(np.sum(odds, axis=0))
            found.insert(0, self.measure(f"all {group} values together", group, together))
        return found

    def _columns(self, odds: Floats) -> Floats:
        return odds[:, 1:] - odds[:, :1] if self.classes == 2 else odds

    def _odds(self, codes: NDArray[np.int64]) -> Floats:
        """Return log p(value | class) - log p(value) of each case, counted on the other folds."""
        result = np.zeros((len(codes), self.classes))
        for k in range(_FOLDS):
            train = self.fold != k
            counts = np.zeros((codes.max() + 1, self.classes))
            np.add.at(counts, (codes[train], self.label[train]), 1.0)
            prior = counts.sum(0) / counts.sum()
            smooth = counts + prior
            odds = np.log(smooth / smooth.sum(1, keepdims=True)) - np.log(prior + 1e-12)
            result[~train] = odds[codes[~train]]
        return result


class _FoldRidge:
    """Ridge regression on any columns of one matrix: the products are formed once per fold."""

    def __init__(self, values: Floats, target: Floats, fold: NDArray[np.int64]) -> None:
        self.values, self.target, self.fold = values, target, fold
        self.products = []
        base = values.mean(0)
        self.values = values - base
        blocks = [self.values[fold == k] for k in range(_FOLDS)]
        grams = [block.T @ block for block in blocks]
        total = np.sum(grams, axis=0)
        for k, gram in enumerate(grams):
            train = fold != k
            count = int(train.sum())
            mean = self.values[train].mean(0)
            shift = target[train].mean(0)
            gram = total - gram - count * np.outer(mean, mean)
            cross = self.values[train].T @ (target[train] - shift)
            self.products.append((gram, cross, mean, shift))

    def scores(self, mask: NDArray[np.bool_], strength: float = _RIDGE) -> Floats:
        """Return out-of-fold predictions `(n, K)` from the columns of the mask."""
        result = np.zeros_like(self.target)
        columns = np.flatnonzero(mask)
        for k, (gram, cross, mean, shift) in enumerate(self.products):
            own = gram[np.ix_(columns, columns)]
            own[np.diag_indices_from(own)] += strength * np.trace(own) / len(own) + 1e-12
            weights = cho_solve(cho_factor(own, overwrite_a=True), cross[columns])
            out = self.fold == k
            result[out] = (self.values[out][:, columns] - mean[columns]) @ weights + shift
        return result


def _level(name: str, group: str, low: float, share: float | None) -> Level:
    look, shortcut = _LIMITS[group]
    if group.startswith("around") and (share is None or share < _SHARE):
        return "none"
    if name in ("whole image", "middle", "all but the ring"):
        return "none"
    return "shortcut" if low >= shortcut else "look" if low >= look else "none"


def _coded(values: Iterable[str | float | None]) -> NDArray[np.int64] | None:
    """Return a code for each value, numbers in bins of equal counts; None if it is constant."""
    found = list(values)
    numbers = [_number(value) for value in found]
    known = np.array([n for n in numbers if n is not None])
    if len(known) == sum(value is not None for value in found) and len(np.unique(known)) > _BINS:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]))
        codes = [-1 if n is None else int(np.searchsorted(edges, n)) for n in numbers]
    else:
        texts = sorted({str(value) for value in found})
        order = {text: code for code, text in enumerate(texts)}
        codes = [order[str(value)] for value in found]
    result = np.array(codes, np.int64) + 1
    return None if len(np.unique(result)) < 2 else result


def _number(value: str | float | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _standard(values: Floats) -> Floats:
    spread = values.std(0)
    return np.asarray((values - values.mean(0)) / np.where(spread > 1e-9, spread, 1.0))


def _grey(values: Small) -> Floats:
    """Return percentiles, mean, deviation, shares of black and white of each channel."""
    some = values[:: max(1, len(values) // _SAMPLED_VALUES)]
    levels = np.percentile(some, (1, 5, 25, 50, 75, 95, 99), axis=0)
    ends = [(some <= 0.0).mean(0), (some >= 1.0).mean(0)]
    return np.concatenate([levels.ravel(), some.mean(0), some.std(0), *ends]).astype(np.float64)


def _spectrum(plane: Small) -> Floats:
    """Return the log power in rings of frequency, without the mean: sharpness and noise."""
    window, ring, count = _frequencies(*plane.shape)
    power = np.abs(np.fft.rfft2((plane - plane.mean()) * window)) ** 2
    sums = np.bincount(ring, power.ravel(), _RINGS) / count
    return np.asarray(np.log(sums / plane.size + 1e-9))


@lru_cache(maxsize=16)
def _frequencies(height: int, width: int) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return a window, the ring of each frequency, and how many frequencies a ring has."""
    window = np.outer(np.hanning(height), np.hanning(width))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    ring = np.minimum((np.hypot(down, across) * 2 * _RINGS).astype(int), _RINGS - 1).ravel()
    return window, ring, np.bincount(ring, minlength=_RINGS).clip(1).astype(float)
