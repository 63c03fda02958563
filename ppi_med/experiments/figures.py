"""Figures of experiments, from their records alone: the heat map of sites, the curves of maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError
from ppi_med.evaluation.figures import plain_figure
from ppi_med.experiments.map_inputs import CONTROLS, REFERENCE
from ppi_med.experiments.maps import BOX, ENERGY_ALL, ENERGY_TOP, TOP, MethodResult, mean_of
from ppi_med.experiments.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FRAME, _CELL = "#1f2933", "#d1495b", 0.95
# Heat maps side by side: more are not legible on a page.
_ACROSS = 4
# One hue per family, one dash per member: curves of a family tend to be close.
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


def heat_map(found: Sequence[Matrix], title: str = "", note: str = "") -> Figure:
    """Draw the matrices on one scale, up to four beside each other: trained on (down), tested on.

    A frame marks the cells whose test site was trained on.

    Raises:
        UsageError: without a matrix.
    """
    if not found:
        raise UsageError("There is no finished cell to draw: run the sweep first.")
    rows, columns = found[0].values.shape
    across = min(len(found), _ACROSS)
    down = -(-len(found) // across)
    width = across * (columns * _CELL + 0.35) + 2.0
    figure = plain_figure(max(width, 5.0), down * (rows * _CELL * 0.75 + 0.6) + 1.3)
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


def _label(panels: NDArray[Any], found: Sequence[Matrix]) -> None:
    """Name the sites at the left and the bottom, and hide the panels without a matrix."""
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


def comparison_figure(found: Sequence[MethodResult]) -> Figure:
    """Draw deletion, insertion and the energy in the box, one row per network.

    Raises:
        ValueError: there are no results.
    """
    if not found:
        raise ValueError("there are no records to draw: run the comparison first")
    networks = list(dict.fromkeys(result.network for result in found))
    figure = plain_figure(13.5, 4.3 * len(networks) + 0.5)
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
