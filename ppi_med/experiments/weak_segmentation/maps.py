"""The maps of a network for cases, and their bounds: readers, masks without a map."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor, nn

from ppi_med.experiments.weak_segmentation.cases import View
from ppi_med.segmentation.grid import (
    Method,
    NetworkGrid,
    Normalise,
    normalised_ct,
    positive_score,
)
from ppi_med.segmentation.masking import Mask, Values, filled, kept_component
from ppi_med.segmentation.scores import MEASURES, scores_against
from ppi_med.training.modes import evaluating

RADII_MM = tuple(np.arange(1.0, 20.5, 0.5).tolist())
"""Radii of the discs to choose from."""
LEVELS_HU = tuple(range(-900, 101, 50))
"""Thresholds to choose from."""
LEVELS_IN_DISC = tuple(product(range(-900, 1, 100), range(2, 14)))
"""Pairs of thresholds in HU and radii in mm to choose from."""


def network_maps(
    network: nn.Module,
    method: Method,
    views: Sequence[View],
    grid: NetworkGrid,
    *,
    normalise: Normalise = normalised_ct,
    positive: int = 1,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> list[Values]:
    """Return the map of each view for the positive class, on the window's pixels.

    Args:
        network: images `(N, 1, size, size)` to logits; its modes are restored afterwards.
        method: saliency by `method(network, image, target)`; channels are summed.
        views: views of cases.
        grid: grid of the network's images.
        normalise: from HU to the network's values, on the whole patch before it is resampled.
        positive: the class to explain, for two or more logits.
        batch_size: images per forward pass.
        device: device of the network.

    Returns:
        float64 `(side, side)` each.
    """
    score = positive_score(positive)
    found: list[Values] = []
    with evaluating(network):
        for start in range(0, len(views), batch_size):
            batch = views[start : start + batch_size]
            images = torch.stack([network_image(view, grid, normalise) for view in batch])
            maps = method(network, images.to(device), score).detach().sum(1, keepdim=True)
            for values, view in zip(maps.double().cpu(), batch, strict=True):
                shape = (view.case.image.shape[0], view.case.image.shape[1])
                back = grid.back(values, shape, view.case.spacing_mm, view.window)
                found.append(np.asarray(back[0].numpy()))
    return found


def network_image(view: View, grid: NetworkGrid, normalise: Normalise = normalised_ct) -> Tensor:
    """Return the network's image of a view, `(1, size, size)`."""
    patch = normalise(torch.from_numpy(view.case.image)[None])
    return grid.image(patch, view.case.spacing_mm, view.window)


def reader_agreement(view: View, *, distances: bool = True) -> dict[str, float]:
    """Return how well readers with an outline on the slice agree, for a case with two or more.

    Args:
        view: view of the case.
        distances: also measure HD95.

    Returns:
        `dice_mutual`, `iou_mutual`, `hd95_mm_mutual`: mean over the pairs of readers;
        `dice_union`: mean of each reader against the union of all, and so on for `iou_union` and
        `hd95_mm_union`. NaN if fewer than two drew anything in the window.
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
    """Return a disc in the middle of the window: the value of knowing the place only."""
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

    Without the disc a nodule at a vessel or the chest wall would include these.

    Args:
        level_and_radius: in HU and in mm.
        view: view of the case.
    """
    level_hu, radius_mm = level_and_radius
    mask = np.asarray(view.image > level_hu) & disc_mask(radius_mm, view)
    return filled(kept_component(mask, "central", view.image.astype(np.float64)))


def random_map(view: View, grid: NetworkGrid, seed: int = 0) -> Values:
    """Return noise on the network's grid, mapped to the window like a network's map."""
    digest = hashlib.sha256(f"random-map-{seed}-{view.case.name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    noise = torch.from_numpy(rng.standard_normal((1, grid.size, grid.size)))
    shape = (view.case.image.shape[0], view.case.image.shape[1])
    return grid.back(noise, shape, view.case.spacing_mm, view.window)[0].numpy()
