"""Figures of a classifier: ROC curve, slices with their map, weights of slices, Figure 5's curves.

Each function returns a matplotlib `Figure` of its own; pyplot and its global state are not used,
and matplotlib is only imported when a figure is made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.bootstrap import Interval
from ppi_med.evaluation.checks import Floats
from ppi_med.evaluation.roc import auc, roc_curve, sensitivity, specificity
from ppi_med.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _SOFT, _ACCENT, _SECOND = "#1f2933", "#9aa5b1", "#0b6e99", "#d1495b"
# Bright on grey at any opacity, and distinct for readers who cannot tell red from green.
_FOR, _AGAINST = (1.0, 0.30, 0.18), (0.20, 0.62, 1.0)
_LINES = ("#d1495b", "#0b6e99", "#2a9d8f", "#7b4fa3", "#c9820a", "#5c677d")
# Below the strongest points: one outlier pixel must not make all others invisible.
_PERCENTILE = 99.5
_MOST_OPAQUE = 0.85


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 120) -> Path:
    """Write the figure as PNG, atomically.

    Args:
        figure: from one of the functions here.
        path: path of the file.
        dpi: pixels per inch.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, facecolor="white")
    return Path(path)


def roc_figure(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    title: str = "",
    interval: Interval | None = None,
    threshold: float | None = None,
) -> Figure:
    """Draw the ROC curve with its area.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        scores: `(n,)`.
        title: above the curve.
        interval: interval of the area, from `ppi_med.evaluation.bootstrap.bootstrap`.
        threshold: mark its working point.

    Raises:
        ValueError: if only one class is present.

    Examples:
        >>> roc_figure([0, 1, 0, 1], [0.1, 0.9, 0.4, 0.3]).axes[0].get_xlabel()
        '1 - specificity'
    """
    curve = roc_curve(labels, scores)
    figure = plain_figure(4.6, 4.8)
    axes = figure.add_subplot()
    area = f"AUC {float(auc(labels, scores)):.3f}"
    if interval is not None:
        area += f" ({interval.level:.0%}: {interval.low:.3f} to {interval.high:.3f})"
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.fill_between(curve.false_positive_rate, curve.sensitivity, color=_ACCENT, alpha=0.08)
    axes.plot(curve.false_positive_rate, curve.sensitivity, color=_ACCENT, linewidth=2)
    if threshold is not None:
        x = 1 - float(specificity(labels, scores, threshold))
        y = float(sensitivity(labels, scores, threshold))
        axes.plot(x, y, "o", color=_SECOND, markersize=7, clip_on=False)
        axes.annotate(
            f"threshold {threshold:.3g}\nsensitivity {y:.2f}, specificity {1 - x:.2f}",
            (x, y),
            xytext=(12, -10),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
            color=_INK,
        )
    n, positives = np.size(labels), int(np.sum(np.asarray(labels) == 1))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="1 - specificity", ylabel="sensitivity")
    axes.set_aspect("equal")
    _title(axes, title or "ROC curve", f"{area}; {positives} of {n} cases positive")
    _plain_frame(axes)
    return figure


def overlay_figure(
    slices: ArrayLike,
    maps: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    outlines: ArrayLike | None = None,
    smoothing: float = 1.0,
    aspect: float = 1.0,
) -> Figure:
    """Draw slices with their map laid over them, one row per slice.

    Left the slice, right the slice with the map: red speaks for the target, blue against it;
    stronger is more opaque. All rows share one scale; full strength is the 99.5th percentile of the
    absolute values.

    Args:
        slices: `(k, H, W)`, grey values of any range.
        maps: `(k, H, W)`, signed.
        names: one per slice.
        title: above all.
        outlines: `(k, H, W)`, masks whose outline is drawn, such as a lesion.
        smoothing: standard deviation in pixels of the Gaussian over the map; 0 for none.
        aspect: height of a pixel divided by its width, from the spacing.

    Raises:
        ValueError: if the shapes differ or there is no slice.

    Examples:
        >>> len(overlay_figure(np.zeros((2, 8, 9)), np.ones((2, 8, 9))).axes)
        5
    """
    grey, signed = np.asarray(slices, dtype=np.float64), np.asarray(maps, dtype=np.float64)
    if grey.ndim != 3 or grey.shape != signed.shape or len(grey) == 0:
        raise ValueError(
            f"Got slices of shape {grey.shape} and maps of shape {signed.shape}, expected two of "
            "one shape (k, H, W)."
        )
    signed = smoothed(signed, smoothing)
    strength = float(np.percentile(np.abs(signed), _PERCENTILE)) or 1.0
    rows, (height, width) = len(grey), grey.shape[1:]
    panel = 3.6
    row_height = min(max(panel * height * aspect / width, 1.1), 2 * panel)
    figure = plain_figure(2 * panel + 1.0, rows * (row_height + 0.32) + 0.55)
    grid = figure.add_gridspec(rows, 3, width_ratios=(1, 1, 0.035))
    low, high = np.percentile(grey, [0.5, 99.8])
    for row in range(rows):
        for column in range(2):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(grey[row], cmap="gray", vmin=low, vmax=max(high, low + 1e-9), aspect=aspect)
            if column == 1:
                axes.imshow(coloured(signed[row] / strength), aspect=aspect)
            if outlines is not None and np.asarray(outlines)[row].any():
                axes.contour(
                    np.asarray(outlines)[row] > 0, levels=[0.5], colors="#ffd166", linewidths=0.9
                )
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0 and names is not None:
                axes.set_title(names[row], fontsize=9, color=_INK, loc="left", pad=4)
    _scale_of_map(figure.add_subplot(grid[0, 2]))
    figure.suptitle(title, fontsize=11, color=_INK, x=0.01, ha="left")
    return figure


def slice_weight_figure(
    weights: ArrayLike,
    *,
    probabilities: ArrayLike | None = None,
    marked: Sequence[int] = (),
    title: str = "",
) -> Figure:
    """Draw the weight of each slice, and below it the probability of each slice alone.

    Args:
        weights: `(S,)`, sum 1.
        probabilities: `(S,)`, each slice's own probability.
        marked: indices of slices to mark, such as those with a lesion.
        title: above.

    Raises:
        ValueError: if the shapes differ.

    Examples:
        >>> len(slice_weight_figure([0.2, 0.8], probabilities=[0.1, 0.9]).axes)
        2
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 1 or w.size == 0:
        raise ValueError(f"Got weights of shape {w.shape}, expected (S,): one per slice.")
    number = np.arange(1, w.size + 1)
    rows = 1 if probabilities is None else 2
    figure = plain_figure(7.2, 1.2 + 1.45 * rows)
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    colours = [_SECOND if i in set(marked) else _ACCENT for i in range(w.size)]
    panels[0].bar(number, w, width=0.85, color=colours)
    panels[0].axhline(1 / w.size, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
    panels[0].set_ylabel("weight")
    _title(panels[0], title or "Slice weights", "dashed: equal weights")
    if probabilities is not None:
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape != w.shape:
            raise ValueError(f"Got probabilities of shape {p.shape}, expected {w.shape}.")
        panels[1].scatter(number, p, s=14, c=colours)
        panels[1].set(ylabel="probability\nof the slice", ylim=(-0.03, 1.03))
    panels[-1].set_xlabel("slice")
    panels[-1].set_xlim(0.2, w.size + 0.8)
    for axes in panels:
        _plain_frame(axes)
    return figure


def curves_figure(
    panels: Mapping[str, Mapping[str, ArrayLike]], counts: Sequence[int], title: str = ""
) -> Figure:
    """Draw one panel per kind of curve, one line per method.

    Args:
        panels: kind -> method -> mean score at each count.
        counts: numbers of pixels, ascending, the first may be 0.
        title: above all.

    Examples:
        >>> panels = {"deletion": {"wbp": [1.0, 0.4], "random": [1.0, 0.9]}}
        >>> len(curves_figure(panels, [0, 10]).axes)
        1
    """
    figure = plain_figure(4.6 * len(panels), 3.8)
    for index, (kind, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), index + 1)
        for number, (name, values) in enumerate(lines.items()):
            colour = _LINES[number % len(_LINES)]
            dashes = "-" if number < len(_LINES) else "--"
            axes.plot(
                counts, np.asarray(values), dashes, marker="o", markersize=3.5,
                color=colour, label=name,
            )  # fmt: skip
        axes.set_xscale("symlog", linthresh=max(1, min((c for c in counts if c), default=1)))
        axes.set(xlabel="pixels", ylabel="score of the class", title=kind)
        axes.spines[["top", "right"]].set_visible(False)
        if index == 0:
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure


def plain_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, without pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _title(axes: Axes, title: str, below: str) -> None:
    axes.set_title(f"{title}\n$_{{}}$", fontsize=11, color=_INK, loc="left")
    axes.annotate(
        below,
        (0, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        color="#52606d",
    )


def _plain_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_SOFT)
    axes.tick_params(colors=_INK, labelsize=8.5, color=_SOFT)
    axes.xaxis.label.set(fontsize=9.5, color=_INK)
    axes.yaxis.label.set(fontsize=9.5, color=_INK)


def smoothed(maps: Floats, deviation: float) -> Floats:
    """Return maps `(k, H, W)` smoothed by a Gaussian of this standard deviation in pixels."""
    if deviation <= 0:
        return maps
    from scipy.ndimage import gaussian_filter

    found: Floats = gaussian_filter(maps, sigma=(0, deviation, deviation))
    return found


def coloured(relative: Floats) -> Any:
    """Return RGBA of a map in units of its full strength: hue is the sign, alpha the size."""
    clipped = np.clip(relative, -1, 1)
    rgba = np.empty((*clipped.shape, 4))
    rgba[..., :3] = np.where(clipped[..., None] >= 0, _FOR, _AGAINST)
    rgba[..., 3] = _MOST_OPAQUE * np.abs(clipped)
    return rgba


def _scale_of_map(axes: Axes) -> None:
    steps = np.linspace(-1, 1, 201)[:, None]
    axes.set_facecolor("0.25")
    axes.imshow(coloured(steps), extent=(0, 1, -1, 1), origin="lower", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([-1, 0, 1], ["against", "0", "for"], fontsize=8.5, color=_INK)
    axes.yaxis.tick_right()
    for spine in axes.spines.values():
        spine.set_color(_SOFT)
