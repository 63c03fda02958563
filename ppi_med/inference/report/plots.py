"""The slices' weights and probabilities as inline SVG, one bar a B-scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 1000
_GAP = 0.15


def bars(
    values: NDArray[np.floating],
    *,
    top: float,
    height: int,
    kind: str,
    label: str,
    unit: str,
    word: str = "B-scan",
) -> str:
    """Return bars that fill a box of any proportions.

    Args:
        values: one a B-scan, not negative.
        top: the value that fills the height.
        height: of the box.
        kind: class of the picture, for its colour.
        label: what is drawn, read out to who cannot see it.
        unit: what a value is called in the bar's own text.
        word: what a slice is called.

    Returns:
        The `svg` element. Each bar is a `rect.bar` with the number of its B-scan, from 0, in
        `data-slice`; `line.here` marks the current one.
    """
    step = WIDTH / len(values)
    parts = [
        _bar(number, float(value), step, height, top, f"{word} {number + 1}: {unit}")
        for number, value in enumerate(values)
    ]
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{"".join(parts)}'
        f'<line class="here" x1="0" x2="0" y1="0" y2="{height}"></line></svg>'
    )


def level(value: float, top: float, height: int) -> str:
    """Return a dashed line across a plot of `bars`, as an element to stand inside it."""
    y = height * (1 - min(max(value / top, 0.0), 1.0))
    return f'<line class="level" x1="0" x2="{WIDTH}" y1="{y:.2f}" y2="{y:.2f}"></line>'


def with_inside(svg: str, elements: Sequence[str]) -> str:
    """Return the picture with further elements drawn over its bars."""
    return svg.removesuffix("</svg>") + "".join(elements) + "</svg>"


def percent(value: float) -> str:
    """Return a probability in percent that never claims to be certain.

    Examples:
        >>> percent(0.8734), percent(1.0), percent(1e-9)
        ('87.3 %', 'over 99.9 %', 'under 0.1 %')
    """
    if value > 0.999:
        return "over 99.9 %"
    if value < 0.001:
        return "under 0.1 %"
    return f"{100 * value:.1f} %"


def _bar(number: int, value: float, step: float, height: int, top: float, text: str) -> str:
    tall = height * min(max(value / top, 0.0), 1.0) if top > 0 else 0.0
    return (
        f'<rect class="bar" data-slice="{number}" x="{(number + _GAP / 2) * step:.2f}" '
        f'y="{height - tall:.2f}" width="{step * (1 - _GAP):.2f}" height="{tall:.2f}">'
        f"<title>{text} {100 * value:.2g} %</title></rect>"
    )
