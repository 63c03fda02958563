"""What a weak mask is to be seen beside: the readers among themselves, and masks without a map."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np

from ppi_med.segmentation.cases import View
from ppi_med.segmentation.masking import Mask, Values, filled, kept_component
from ppi_med.segmentation.scores import MEASURES, scores_against
from ppi_med.segmentation.windows import NetworkGrid

RADII_MM = tuple(np.arange(1.0, 20.5, 0.5).tolist())
"""Of the discs to choose from."""
LEVELS_HU = tuple(range(-900, 101, 50))
"""Of the thresholds to choose from."""
LEVELS_IN_DISC = tuple(product(range(-900, 1, 100), range(2, 14)))
"""Of thresholds in HU and radii in mm to choose from together."""


def reader_agreement(view: View, *, distances: bool = True) -> dict[str, float]:
    """Return how well readers with an outline on the slice agree, for a case with two or more.

    Args:
        view: of the case.
        distances: measure HD95 too.

    Returns:
        `dice_mutual`, `iou_mutual`, `hd95_mm_mutual`: mean over the pairs of readers;
        `dice_union`: mean of each reader against the union of all, and so on for `iou_union` and
        `hd95_mm_union`. NaN where fewer than two drew anything in the window.
    """
    masks = [view.readers[slot] for slot in np.flatnonzero(view.case.drawn).tolist()]
    masks = [mask for mask in masks if mask.any()]
    names = [f"{m}_{what}" for what in ("mutual", "union") for m in MEASURES[: 2 + distances]]
    if len(masks) < 2:
        return dict.fromkeys(names, math.nan)
    spacing = view.case.spacing_mm
    pairs = [
        scores_against(a, {"mutual": b}, spacing, distances=distances)
        for a, b in combinations(masks, 2)
    ]
    wholes = [
        scores_against(mask, {"union": view.union}, spacing, distances=distances) for mask in masks
    ]
    means = {key: float(np.mean([pair[key] for pair in pairs])) for key in pairs[0]}
    return means | {key: float(np.mean([one[key] for one in wholes])) for key in wholes[0]}


def disc_mask(radius_mm: float, view: View) -> Mask:
    """Return a disc in the middle of the window: what knowing the place alone is worth."""
    window, spacing = view.window, view.case.spacing_mm
    rows, columns = (
        (np.arange(window.side) + start - middle) * mm
        for start, middle, mm in zip(window.start, window.middle, spacing, strict=True)
    )
    return np.asarray(rows[:, None] ** 2 + columns[None, :] ** 2 <= radius_mm**2)


def bright_component(level_hu: float, view: View) -> Mask:
    """Return the tissue above a threshold in HU that is nearest to the middle."""
    mask = np.asarray(view.image > level_hu)
    return filled(kept_component(mask, "central", view.image.astype(np.float64)))


def bright_component_in_disc(level_and_radius: tuple[float, float], view: View) -> Mask:
    """Return the tissue above a threshold that is nearest to the middle, cut off by a disc.

    Without the disc a nodule at a vessel or the chest wall takes these along.

    Args:
        level_and_radius: in HU and in mm.
        view: of the case.
    """
    level_hu, radius_mm = level_and_radius
    mask = np.asarray(view.image > level_hu) & disc_mask(radius_mm, view)
    return filled(kept_component(mask, "central", view.image.astype(np.float64)))


def random_map(view: View, grid: NetworkGrid, seed: int = 0) -> Values:
    """Return noise on the network's grid, brought to the window as a network's map is."""
    import hashlib

    import torch

    digest = hashlib.sha256(f"random-map-{seed}-{view.case.name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    noise = torch.from_numpy(rng.standard_normal((1, grid.size, grid.size)))
    shape = (view.case.image.shape[0], view.case.image.shape[1])
    return grid.back(noise, shape, view.case.spacing_mm, view.window)[0].numpy()
