"""Pictures of a sweep: the heat map of the matrix, and a table as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError
from ppi_med.experiments.cross_site.matrix import Matrix
from ppi_med.experiments.cross_site.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FRAME = "#1f2933", "#d1495b"
_CELL, _ROW = 0.95, 0.26
# Heat maps beside each other: more cannot be read on a page.
_ACROSS = 4


def heat_map(found: Sequence[Matrix], title: str = "", note: str = "") -> Figure:
    """Draw the matrices on one scale, up to four beside each other: trained on (down), tested on.

    A frame marks the cells whose test site was trained on.

    Args:
        found: one a method.
        title: above all.
        note: below all.

    Raises:
        UsageError: where there is none.
    """
    if not found:
        raise UsageError("There is no finished cell to draw: run the sweep first.")
    rows, columns = found[0].values.shape
    across = min(len(found), _ACROSS)
    down = -(-len(found) // across)
    width = across * (columns * _CELL + 0.35) + 2.0
    figure = _figure(max(width, 5.0), down * (rows * _CELL * 0.75 + 0.6) + 1.3)
    panels = figure.subplots(down, across, squeeze=False)
    known = np.concatenate([one.values[~np.isnan(one.values)] for one in found])
    low = min(0.5, float(known.min())) if known.size else 0.5
    for axes, one in zip(panels.flat, found, strict=False):
        image = axes.imshow(one.values, cmap="viridis", vmin=low, vmax=1.0, aspect="auto")
        _numbers(axes, one, low)
        axes.set_title(_summary(one), fontsize=9.5, color=_INK, loc="left")
    _label(panels, found)
    figure.colorbar(image, ax=list(panels.flat), label="AUC", shrink=0.85)
    if title:
        figure.suptitle(title, fontsize=11, color=_INK, x=0.01, ha="left")
    if note:
        figure.supxlabel(note, fontsize=8, color="#52606d", x=0.01, ha="left")
    return figure


def table_figure(table: Table) -> Figure:
    """Draw a table."""
    texts = [list(table.columns), *table.texts()]
    widths = [max(len(row[i]) for row in texts) + 2 for i in range(len(table.columns))]
    total = max(sum(widths) * 0.085, 4.0)
    notes = [line for note in table.notes for line in textwrap.wrap(note, int(total * 13))]
    height = _ROW * (len(texts) + 1.2) + 0.17 * len(notes) + 0.2
    figure = _figure(total, height)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(0, sum(widths)), ylim=(len(texts) + 0.7 * len(notes) + 0.3, -1.0))
    axes.text(0, -0.5, table.title, fontsize=10, color=_INK, va="center")
    for number, row in enumerate(texts):
        place = 0
        for text, width in zip(row, widths, strict=True):
            weight = "bold" if number == 0 else "normal"
            axes.text(place, number + 0.5, text, fontsize=8.5, va="center", weight=weight)
            place += width
    axes.axhline(1, color=_INK, linewidth=0.8)
    for number, line in enumerate(notes):
        axes.text(0, len(texts) + 0.5 + 0.7 * number, line, fontsize=7.5, va="center", color=_INK)
    return figure


def _label(panels: NDArray[Any], found: Sequence[Matrix]) -> None:
    """Name the sites at the left and below, and hide the panels without a matrix."""
    (rows, columns), across = found[0].values.shape, panels.shape[1]
    for number, axes in enumerate(panels.flat):
        axes.set_visible(number < len(found))
        axes.set(xticks=range(columns), yticks=range(rows), xticklabels=[], yticklabels=[])
        if number % across == 0:
            axes.set_yticks(range(rows), found[0].train_sites, fontsize=8.5)
            axes.set_ylabel("trained on", fontsize=9)
        if number + across >= len(found):  # the lowest of its column
            sites = found[0].test_sites
            axes.set_xticks(range(columns), sites, fontsize=8.5, rotation=20, ha="right")
            axes.set_xlabel("tested on", fontsize=9)


def _numbers(axes: Axes, one: Matrix, low: float) -> None:
    from matplotlib.patches import Rectangle

    for (row, column), value in np.ndenumerate(one.values):
        if not np.isnan(value):
            dark = (value - low) / (1 - low) < 0.6
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=9,
                color="white" if dark else "black",
            )  # fmt: skip
        if one.seen[row, column]:
            place = (column - 0.47, row - 0.45)
            axes.add_patch(Rectangle(place, 0.94, 0.9, fill=False, color=_FRAME, lw=1.8))


def _summary(one: Matrix) -> str:
    return f"{one.method}\nother sites {one.other_sites:.3f}, same site {one.same_site:.3f}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
