"""From a map to a mask: sign, smoothing, threshold, component."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sign = Literal["positive", "absolute", "signed"]
Threshold = Literal["otsu", "std", "quantile"]
Component = Literal["all", "largest", "central", "peak"]
Refinement = Literal["none", "random_walker"]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskRule:
    """How a map becomes a mask.

    Attributes:
        sign: what counts of a signed map: what speaks for the class, the absolute value, or the
            map as it is.
        smoothing_mm: standard deviation of a Gaussian, in mm; in pixels where no spacing is given.
        threshold: "otsu"; "std": above mean + `level` standard deviations; "quantile": above the
            quantile `level`.
        level: of the threshold; unused by Otsu's.
        component: keep all connected components, the largest, the one nearest to the middle, or
            the one with the map's highest point. Corners connect.
        fill_holes: close what the mask encloses.
        refinement: "random_walker": move the border to edges of the image, see
            :mod:`~ppi_med.segmentation.refine`.
        beta: of the random walker: the larger, the harder an edge is to cross.

    Raises:
        ValueError: where a value is outside its range.

    Examples:
        >>> MaskRule(smoothing_mm=1, threshold="std", level=2).name
        'positive, 1 mm, std 2, central'
    """

    sign: Sign = "positive"
    smoothing_mm: float = 0.0
    threshold: Threshold = "otsu"
    level: float = 0.0
    component: Component = "central"
    fill_holes: bool = True
    refinement: Refinement = "none"
    beta: float = 130.0

    def __post_init__(self) -> None:
        for value, kinds in (
            (self.sign, Sign),
            (self.threshold, Threshold),
            (self.component, Component),
            (self.refinement, Refinement),
        ):
            if value not in get_args(kinds):
                raise ValueError(f"Got {value!r}, expected one of {', '.join(get_args(kinds))}.")
        if self.smoothing_mm < 0 or self.beta <= 0:
            raise ValueError(
                f"Got smoothing_mm={self.smoothing_mm} and beta={self.beta}, expected 0 or more "
                "and above 0."
            )
        if self.threshold == "quantile" and not 0 <= self.level < 1:
            raise ValueError(f"level is {self.level}, expected a quantile from 0 to below 1.")

    @property
    def name(self) -> str:
        """The rule in words."""
        level = "" if self.threshold == "otsu" else f" {self.level:g}"
        parts = [self.sign, f"{self.smoothing_mm:g} mm", self.threshold + level, self.component]
        if self.refinement != "none":
            parts.append(f"random walker {self.beta:g}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain values, for JSON."""
        return asdict(self)

    def with_component(self, component: Component) -> MaskRule:
        """Return the same rule with another component."""
        return replace(self, component=component)


def map_to_mask(
    values: ArrayLike,
    rule: MaskRule,
    *,
    spacing_mm: float | tuple[float, ...] = 1.0,
    image: ArrayLike | None = None,
) -> Mask:
    """Return the mask that a rule makes of a map.

    Args:
        values: the map, of two or three axes.
        rule: how.
        spacing_mm: of the pixels; one number or one an axis.
        image: of the map's shape, in about 0 to 1; only a refinement needs it.

    Returns:
        bool, of the map's shape; empty where no pixel is above the threshold.

    Raises:
        ValueError: for a map with values that are no numbers, or a refinement without image.

    Examples:
        >>> map_to_mask(np.pad(np.ones((2, 2)), 2), MaskRule()).sum().item()
        4
    """
    smooth = prepared_map(values, rule, spacing_mm)
    mask = kept_component(thresholded(smooth, rule), rule.component, smooth)
    if rule.refinement == "none" or not mask.any():
        return mask
    from ppi_med.segmentation.refine import random_walk

    if image is None:
        raise ValueError(f"the rule '{rule.name}' needs the image, got none: give image=.")
    return random_walk(mask, smooth, np.asarray(image, dtype=np.float64), rule.beta)


def prepared_map(
    values: ArrayLike, rule: MaskRule, spacing_mm: float | tuple[float, ...] = 1.0
) -> Values:
    """Return the map with its sign taken and smoothed.

    Raises:
        ValueError: for a map with values that are no numbers.
    """
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("the map has values that are no numbers: look at the network's output.")
    if rule.sign == "positive":
        found = np.maximum(found, 0)
    elif rule.sign == "absolute":
        found = np.abs(found)
    if rule.smoothing_mm == 0:
        return found
    from scipy.ndimage import gaussian_filter

    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (found.ndim,))
    return np.asarray(gaussian_filter(found, sigma=tuple(rule.smoothing_mm / spacing)))


def thresholded(values: Values, rule: MaskRule) -> Mask:
    """Return the pixels above the rule's threshold, holes closed; none of a constant map."""
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, bool)
    if rule.threshold == "otsu":
        level = otsu(values)
    elif rule.threshold == "std":
        level = values.mean() + rule.level * values.std()
    else:
        level = np.quantile(values, rule.level)
    mask = np.asarray(values > level)
    return filled(mask) if rule.fill_holes else mask


def otsu(values: Values) -> float:
    """Return Otsu's threshold, half way between two neighbouring values.

    It parts the values so that the variance between the two classes is largest; all places between
    different values are tried, not the bins of a histogram.

    Examples:
        >>> otsu(np.array([0.0, 0.1, 0.9, 1.0]))
        0.5
    """
    ordered = np.sort(values, axis=None)
    count = np.arange(1, ordered.size)
    below = np.cumsum(ordered)[:-1]
    gap = below / count - (ordered.sum() - below) / (ordered.size - count)
    between = count * (ordered.size - count) * gap**2
    between[ordered[1:] == ordered[:-1]] = -1
    best = int(between.argmax())
    return float((ordered[best] + ordered[best + 1]) / 2)


def kept_component(mask: Mask, component: Component, values: Values) -> Mask:
    """Return one connected component of a mask.

    Args:
        mask: of any number of axes.
        component: see :class:`MaskRule`.
        values: the smoothed map, for its highest point.
    """
    if component == "all" or not mask.any():
        return mask
    labels = labelled(mask)
    return np.asarray(labels == component_label(labels, component, values))


def labelled(mask: Mask) -> NDArray[np.int32]:
    """Return the components of a mask by number; corners connect."""
    from scipy.ndimage import generate_binary_structure, label

    labels, _ = label(mask, generate_binary_structure(mask.ndim, mask.ndim))
    return np.asarray(labels)


def component_label(labels: NDArray[np.int32], component: Component, values: Values) -> int:
    """Return the number of the component that is kept; at least one must be there."""
    if component == "largest":
        return int(np.bincount(labels.ravel())[1:].argmax()) + 1
    if component == "peak":
        return int(labels.flat[int(np.where(labels > 0, values, -np.inf).argmax())])
    middle = [(size - 1) / 2 for size in labels.shape]
    steps = np.ogrid[tuple(slice(0, size) for size in labels.shape)]
    distance = sum((step - at) ** 2 for step, at in zip(steps, middle, strict=True))
    return int(labels.flat[int(np.where(labels > 0, distance, np.inf).argmin())])


def filled(mask: Mask) -> Mask:
    """Return the mask with what it encloses: background that does not reach the border.

    Examples:
        >>> ring = np.ones((3, 3), bool); ring[1, 1] = False
        >>> bool(filled(ring).all())
        True
    """
    from scipy.ndimage import label

    outside, count = label(~mask)
    edges = [np.take(outside, end, axis=axis) for axis in range(mask.ndim) for end in (0, -1)]
    reached = np.zeros(count + 1, bool)
    for edge in edges:
        reached[edge] = True
    reached[0] = False
    return np.asarray(~reached[outside])
