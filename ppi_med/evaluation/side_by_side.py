"""Maps of several methods side by side on the same images (the form of Figures 3, 4 and 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.checks import Floats
from ppi_med.evaluation.figures import coloured, plain_figure, smoothed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Below the strongest points: one outlier pixel must not make all others invisible.
_PERCENTILE = 99.5
_OUTLINE = "#f2c14e"


def side_by_side_figure(
    images: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    names: Sequence[str] | None = None,
    masks: ArrayLike | None = None,
    smoothing: float = 0.0,
) -> Figure:
    """Draw one row per image: the image, then each method's map over it in grey.

    Red speaks for the target, blue against it, the stronger the more opaque. Each map has its own
    scale, full strength is the 99.5th percentile of its absolute values: methods have different
    units, so only places can be compared.

    Args:
        images: `(n, H, W)` or `(n, H, W, 3)`, values of any range.
        maps: method -> `(n, H, W)`, signed.
        names: one per image.
        masks: `(n, H, W)`, boolean; their outline is drawn, such as a box or a lesion.
        smoothing: standard deviation in pixels of a Gaussian over the maps (default 0: none).

    Raises:
        ValueError: if shapes differ or there is nothing to draw.

    Examples:
        >>> figure = side_by_side_figure(np.zeros((2, 8, 9)), {"a": np.ones((2, 8, 9))})
        >>> len(figure.axes)
        4
    """
    pictures = np.asarray(images, dtype=np.float64)
    found = {name: np.asarray(values, dtype=np.float64) for name, values in maps.items()}
    _check(pictures, found)
    outlines = None if masks is None else np.asarray(masks, dtype=bool)
    count = len(pictures)
    figure = plain_figure(1.9 * (1 + len(found)), 1.95 * count + 0.3)
    panels = figure.subplots(count, 1 + len(found), squeeze=False)
    for row, picture in enumerate(_between_0_and_1(pictures)):
        first, *others = panels[row]
        first.imshow(picture, cmap="gray", vmin=0, vmax=1)
        if names is not None:
            first.set_ylabel(names[row], fontsize=9)
        grey = picture if picture.ndim == 2 else picture.mean(-1)
        for axes, values in zip(others, found.values(), strict=True):
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
            axes.imshow(coloured(_scaled(values[row], smoothing)))
        for axes in panels[row]:
            _finish(axes, None if outlines is None else outlines[row])
    for axes, name in zip(panels[0], ["image", *found], strict=True):
        axes.set_title(name, fontsize=9)
    return figure


def _check(pictures: Floats, maps: Mapping[str, Floats]) -> None:
    if pictures.ndim not in (3, 4) or len(pictures) == 0 or not maps:
        raise ValueError(
            f"Got images of shape {pictures.shape} and {len(maps)} maps, expected (n, H, W) or "
            "(n, H, W, 3) and at least one map."
        )
    for name, values in maps.items():
        if values.shape != pictures.shape[:3]:
            raise ValueError(
                f"The map {name!r} has shape {values.shape}, expected {pictures.shape[:3]}: one "
                "value per pixel, summed over channels."
            )


def _between_0_and_1(pictures: Floats) -> Floats:
    axes = tuple(range(1, pictures.ndim))
    low, high = pictures.min(axes, keepdims=True), pictures.max(axes, keepdims=True)
    shown: Floats = (pictures - low) / np.where(high > low, high - low, 1.0)
    return shown


def _scaled(values: Floats, smoothing: float) -> Floats:
    smooth = smoothed(values[None], smoothing)[0]
    full = float(np.percentile(np.abs(smooth), _PERCENTILE)) or float(np.abs(smooth).max())
    scaled: Floats = smooth / (full or 1.0)
    return scaled


def _finish(axes: Axes, mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None) -> None:
    if mask is not None and mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=[_OUTLINE], linewidths=1.0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
