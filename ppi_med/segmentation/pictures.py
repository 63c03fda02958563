"""Pictures like the paper's Figure 6: image, map, weak mask, the readers' outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ppi_med.segmentation.study import Outcome, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READER_COLOURS = ("#ffd166", "#06d6a0", "#4cc9f0", "#ef476f")
_MASK = "#ff5d2e"
_PERCENTILE = 99.5


def typical_cases(outcome: Outcome, count: int = 6) -> list[int]:
    """Return indices of cases at evenly spaced ranks of the lesion's area.

    The same cases for every method and network: they are not picked by how well a method does.
    """
    areas = [int(view.union.sum()) for view in outcome.views]
    order = sorted(range(len(areas)), key=lambda i: (areas[i], outcome.views[i].case.name))
    ranks = (np.arange(min(count, len(order))) + 0.5) / min(count, len(order)) * len(order)
    return [order[int(rank)] for rank in ranks]


def segmentation_figure(outcome: Outcome, count: int = 6) -> Figure:
    """Draw typical cases, one a row.

    Args:
        outcome: with masks; maps are drawn where there are some.
        count: of cases.

    Raises:
        ValueError: for an outcome without masks.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not outcome.masks:
        raise ValueError(f"{outcome.method} has no masks to draw, expected an outcome with some.")
    chosen = typical_cases(outcome, count)
    figure = Figure(figsize=(8.4, 2.2 * len(chosen) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(chosen), 4, squeeze=False)
    for row, index in enumerate(chosen):
        _draw(axes[row], outcome, index)
        if row == 0:
            for column, title in enumerate(("CT", "map", "weak mask", "readers")):
                axes[0, column].set_title(title, fontsize=9)
    figure.suptitle(f"{outcome.method}, {outcome.crops} crops: {outcome.rule}", fontsize=9)
    return figure


def _draw(axes: Any, outcome: Outcome, index: int) -> None:
    view, mask = outcome.views[index], outcome.masks[index]
    grey = picture(view)
    for column in range(4):
        axes[column].imshow(grey, cmap="gray", vmin=0, vmax=1)
        axes[column].set_xticks([])
        axes[column].set_yticks([])
    if outcome.maps:
        values = outcome.maps[index]
        strength = float(np.percentile(np.abs(values), _PERCENTILE)) or 1.0
        axes[1].imshow(values, cmap="coolwarm", vmin=-strength, vmax=strength, alpha=0.65)
    if mask.any():
        axes[2].contour(mask, levels=[0.5], colors=_MASK, linewidths=1.2)
    for slot in np.flatnonzero(view.case.drawn).tolist():
        if view.readers[slot].any():
            colour = READER_COLOURS[slot % len(READER_COLOURS)]
            axes[3].contour(view.readers[slot], levels=[0.5], colors=colour, linewidths=0.9)
    dice = outcome.rows[index].get("dice_union", float("nan"))
    axes[0].set_ylabel(view.case.name, fontsize=7)
    axes[2].set_xlabel(f"Dice {dice:.2f}", fontsize=7)
