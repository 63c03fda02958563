"""From a map to a mask: sign, smoothing, threshold, component, random walk to the edges."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
        sign: the part of a signed map that counts: what speaks for the class, the absolute value,
            or the map as it is.
        smoothing_mm: standard deviation of a Gaussian, in mm; in pixels if no spacing is given.
        threshold: "otsu"; "std": above mean + `level` standard deviations; "quantile": above the
            quantile `level`.
        level: level of the threshold; unused by Otsu's.
        component: keep all connected components, the largest, the one nearest to the middle, or
            the one with the map's highest point. Corners connect.
        fill_holes: fill the holes of the mask.
        refinement: "random_walker": move the border to edges of the image, see
            `random_walk`.
        beta: beta of the random walker: larger values make edges harder to cross.

    Raises:
        ValueError: if a value is outside its range.

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
        rule: the rule.
        spacing_mm: spacing of the pixels; one number or one per axis.
        image: image of the map's shape, in about 0 to 1; only a refinement needs it.

    Returns:
        bool, of the map's shape; empty where no pixel is above the threshold.

    Raises:
        ValueError: for a map with values that are not numbers, or a refinement without image.

    Examples:
        >>> map_to_mask(np.pad(np.ones((2, 2)), 2), MaskRule()).sum().item()
        4
    """
    smooth = prepared_map(values, rule, spacing_mm)
    mask = kept_component(thresholded(smooth, rule), rule.component, smooth)
    if rule.refinement == "none" or not mask.any():
        return mask
    if image is None:
        raise ValueError(f"the rule '{rule.name}' needs the image, got none: give image=.")
    return random_walk(mask, smooth, np.asarray(image, dtype=np.float64), rule.beta)


def prepared_map(
    values: ArrayLike, rule: MaskRule, spacing_mm: float | tuple[float, ...] = 1.0
) -> Values:
    """Return the smoothed map with the rule's sign.

    Raises:
        ValueError: for a map with values that are not numbers.
    """
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("the map has values that are not numbers: look at the network's output.")
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
    """Return the pixels above the rule's threshold, holes filled; no pixel for a constant map."""
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, bool)
    if rule.threshold == "otsu":
        from skimage.filters import threshold_otsu

        # Every value is its own bin, so no threshold depends on a histogram's bins.
        found, counts = np.unique(values, return_counts=True)
        otsu: Any = threshold_otsu
        level = otsu(hist=(counts, found))
    elif rule.threshold == "std":
        level = values.mean() + rule.level * values.std()
    else:
        level = np.quantile(values, rule.level)
    mask = np.asarray(values > level)
    return filled(mask) if rule.fill_holes else mask


def kept_component(mask: Mask, component: Component, values: Values) -> Mask:
    """Return one connected component of a mask.

    Args:
        mask: mask of any number of axes.
        component: see `MaskRule`.
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
    """Return the number of the component to keep; there must be at least one."""
    if component == "largest":
        return int(np.bincount(labels.ravel())[1:].argmax()) + 1
    if component == "peak":
        return int(labels.flat[int(np.where(labels > 0, values, -np.inf).argmax())])
    middle = [(size - 1) / 2 for size in labels.shape]
    steps = np.ogrid[tuple(slice(0, size) for size in labels.shape)]
    distance = sum((step - at) ** 2 for step, at in zip(steps, middle, strict=True))
    return int(labels.flat[int(np.where(labels > 0, distance, np.inf).argmin())])


def filled(mask: Mask) -> Mask:
    """Return the mask with its holes filled: background that does not reach the border.

    Examples:
        >>> ring = np.ones((3, 3), bool); ring[1, 1] = False
        >>> bool(filled(ring).all())
        True
    """
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes(mask))


def random_walk(
    mask: Mask,
    values: Values,
    image: NDArray[np.float64],
    beta: float = 130.0,
    margin: int = 3,
) -> Mask:
    """Return the pixels from which a random walk reaches the object's seeds first (Grady 2006).

    Seeds of the object: the stronger half of the map inside the mask. Seeds of the background: all
    pixels more than `margin` from the mask. The image decides about the rest.

    Args:
        mask: mask of the map.
        values: the smoothed map.
        image: image of the same shape, in about 0 to 1.
        beta: larger values make edges harder to cross.
        margin: in pixels.

    Returns:
        The mask; unchanged if it is empty, leaves no background, or the image has no edges.

    Raises:
        ValueError: for shapes that differ.

    Examples:
        >>> image = np.zeros((9, 9)); image[3:6, 3:6] = 1
        >>> hint = np.zeros((9, 9), bool); hint[4, 3:5] = True
        >>> found = random_walk(hint, hint * 1.0, image, beta=1000)
        >>> bool((found == (image > 0)).all())
        True
    """
    if not mask.shape == values.shape == image.shape:
        raise ValueError(
            f"Got a mask of {mask.shape}, a map of {values.shape} and an image of {image.shape}, "
            "expected one shape."
        )
    if not mask.any() or image.std() == 0:
        return mask
    from scipy.ndimage import binary_dilation, generate_binary_structure
    from skimage.segmentation import random_walker

    near = binary_dilation(mask, generate_binary_structure(mask.ndim, mask.ndim), margin)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[~near] = 1
    seeds[mask & (values >= np.median(values[mask]))] = 2
    if not (seeds == 1).any() or not (seeds == 0).any():
        return mask
    found = random_walker(image, seeds, beta=beta, mode="bf")
    return np.asarray(found == 2)
