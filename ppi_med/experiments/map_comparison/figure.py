"""The figure of the comparison, from its records alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppi_med.experiments.map_comparison.measure import BOX, ENERGY_ALL, ENERGY_TOP, TOP
from ppi_med.experiments.map_comparison.methods import CONTROLS, REFERENCE
from ppi_med.experiments.map_comparison.table import MethodResult, mean_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One hue a family, one dash a member: methods of a family tend to lie together.
_FAMILIES = {
    "#d1495b": ("wbp",),
    "#0b6e99": ("gradient", "gradient_absolute", "gradient_x_input"),
    "#2a9d8f": ("integrated_gradients", "smoothgrad"),
    "#7b4fa3": ("gradcam", "gradcam_plus_plus", "occlusion"),
    "#c9820a": (
        "lrp_epsilon",
        "lrp_gamma",
        "lrp_alpha2_beta1",
        "lrp_epsilon_plus_flat",
        "lrp_epsilon_gamma_box",
    ),
    "#8d99a6": CONTROLS,
}
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
_BANDS = (REFERENCE, "random")


def comparison_figure(found: Sequence[MethodResult]) -> Figure:
    """Draw deletion, insertion and the energy in the box, one row a network.

    Args:
        found: of :func:`~.table.results`.

    Raises:
        ValueError: there are no results.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not found:
        raise ValueError("there are no records to draw: run the comparison first")
    networks = list(dict.fromkeys(result.network for result in found))
    figure = Figure(figsize=(13.5, 4.3 * len(networks) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(networks), 3, squeeze=False)
    for row, network in zip(panels, networks, strict=True):
        own = [result for result in found if result.network == network]
        _curves(row[0], own, "deletion", f"{network}: pixels removed, highest first")
        _curves(row[1], own, "insertion", f"{network}: pixels shown, highest first")
        _energy(row[2], own)
    handles: dict[str, Any] = {}
    for row in panels:
        lines, labels = row[0].get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=6, fontsize=8.5, frameon=False
    )
    return figure


def _curves(axes: Axes, own: Sequence[MethodResult], kind: str, title: str) -> None:
    for result in own:
        colour, dash = _style(result.method)
        counts, scores = result.curve(kind)
        x, y = counts[1:], scores.mean(0)[1:]
        strong = result.method == REFERENCE
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=2.4 if strong else 1.3,
                  label=result.method, zorder=3 if strong else 2)  # fmt: skip
        if result.method in _BANDS:
            means = [mean_of(scores[:, k]) for k in range(1, len(counts))]
            axes.fill_between(x, [m.low for m in means], [m.high for m in means],
                              color=colour, alpha=0.15, linewidth=0)  # fmt: skip
    clean = own[0].values["deletion_0"].mean()
    axes.axhline(clean, color="#1f2933", linewidth=0.8, linestyle=(0, (1, 3)))
    axes.annotate("whole image", (1, clean), xycoords=("axes fraction", "data"), ha="right",
                  xytext=(-3, 3), textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    axes.set(title=title, xlabel="pixels (of 224 x 224)", ylim=(0, None))
    axes.set_ylabel("probability of the label")
    _plain(axes)


def _energy(axes: Axes, own: Sequence[MethodResult]) -> None:
    places = np.arange(len(own))[::-1]
    for place, result in zip(places, own, strict=True):
        colour, _ = _style(result.method)
        for name, offset, filled in ((ENERGY_TOP, 0.14, True), (ENERGY_ALL, -0.14, False)):
            mean = mean_of(result.quantity(name))
            face = colour if filled else "white"
            axes.plot([mean.low, mean.high], [place + offset] * 2, color=colour, linewidth=1.4)
            axes.plot(mean.value, place + offset, "o", color=colour, markerfacecolor=face,
                      markersize=4.5)  # fmt: skip
    share = own[0].quantity(BOX).mean()
    axes.axvline(share, color="#1f2933", linewidth=0.8, linestyle=(0, (1, 3)))
    axes.annotate("box's share", (share, 0.99), xycoords=("data", "axes fraction"),
                  xytext=(3, 0), textcoords="offset points", va="top", fontsize=8)  # fmt: skip
    axes.set_yticks(places, [result.method for result in own], fontsize=8)
    axes.set(title=f"energy in the box (filled: top {TOP})", xlabel="share of the energy")
    _plain(axes)


def _style(method: str) -> tuple[str, Any]:
    for colour, members in _FAMILIES.items():
        if method in members:
            return colour, _DASHES[members.index(method)]
    return "#1f2933", "-"


def _plain(axes: Axes) -> None:
    axes.title.set_fontsize(10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
