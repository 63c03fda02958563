"""Figure 5's curves: what removing or showing a map's highest pixels does to the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#d1495b", "#0b6e99", "#2a9d8f", "#7b4fa3", "#c9820a", "#5c677d")


def curves_figure(
    panels: Mapping[str, Mapping[str, ArrayLike]], counts: Sequence[int], title: str = ""
) -> Figure:
    """Draw one panel a kind of curve, one line a method.

    Args:
        panels: kind -> method -> mean score at each count.
        counts: numbers of pixels, ascending, the first may be 0.
        title: above all.

    Examples:
        >>> panels = {"deletion": {"wbp": [1.0, 0.4], "random": [1.0, 0.9]}}
        >>> len(curves_figure(panels, [0, 10]).axes)
        1
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(panels), 3.8), layout="constrained")
    for index, (kind, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), index + 1)
        for number, (name, values) in enumerate(lines.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            dashes = "-" if number < len(_COLOURS) else "--"
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
