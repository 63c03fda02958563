"""Dice, IoU and the 95th percentile of the surface distance in mm, by MONAI's metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ppi_med.segmentation.masking import Mask

MEASURES = ("dice", "iou", "hd95_mm")
REFERENCES = ("union", "majority", "readers")


def score_case(
    mask: Mask,
    references: Mapping[str, Mask],
    spacing_mm: tuple[float, ...],
    *,
    distances: bool = True,
) -> dict[str, float]:
    """Return how well a mask fits the readers' drawings.

    Args:
        mask: mask of two or three axes.
        references: `union`, `majority`, `reader1` and so on, without empty ones.
        spacing_mm: one number per axis.
        distances: also measure HD95, which takes most of the time.

    Returns:
        `dice_union`, `iou_union`, `hd95_mm_union`, the same for `majority`, for `reader1` and so on
        (those with an outline), and for `readers`, their mean. An empty mask has Dice and IoU 0,
        and the mask's diagonal as HD95.
    """
    found = scores_against(mask, references, spacing_mm, distances=distances)
    for measure in MEASURES[: 3 if distances else 2]:
        single = [v for k, v in found.items() if k.startswith(f"{measure}_reader")]
        found[f"{measure}_readers"] = float(np.mean(single)) if single else math.nan
    return found


def scores_against(
    mask: Mask,
    references: Mapping[str, Mask],
    spacing_mm: tuple[float, ...],
    *,
    distances: bool = True,
) -> dict[str, float]:
    """Return `dice_NAME`, `iou_NAME` and `hd95_mm_NAME` for each reference.

    Args:
        mask: mask of two or three axes.
        references: masks that are not empty, by name.
        spacing_mm: one number per axis.
        distances: also measure HD95.

    Raises:
        ValueError: for a reference of another shape, or an empty one.

    Examples:
        >>> square = np.zeros((6, 6), bool); square[1:3, 1:3] = True
        >>> found = scores_against(square, {"a": square, "b": np.roll(square, 1, 0)}, (0.5, 0.5))
        >>> found["dice_a"], found["dice_b"], found["hd95_mm_b"]
        (1.0, 0.5, 0.5)
    """
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou

    if not references:
        return {}
    for name, reference in references.items():
        if reference.shape != mask.shape or not reference.any():
            raise ValueError(
                f"reference {name} has {int(reference.sum())} pixels of {reference.shape}, "
                f"expected some of {mask.shape}."
            )
    wanted = torch.from_numpy(np.stack(list(references.values())))[:, None]
    given = torch.from_numpy(np.ascontiguousarray(mask)).expand_as(wanted)
    found = {"dice": compute_dice(given, wanted)[:, 0], "iou": compute_iou(given, wanted)[:, 0]}
    if distances:
        diagonal = math.dist((0.0,) * mask.ndim, np.multiply(mask.shape, spacing_mm).tolist())
        found["hd95_mm"] = torch.full((len(wanted),), diagonal)
        if mask.any():
            found["hd95_mm"] = compute_hausdorff_distance(
                given, wanted, include_background=True, percentile=95, spacing=list(spacing_mm)
            )[:, 0]
    return {
        f"{measure}_{name}": float(value)
        for measure, values in found.items()
        for name, value in zip(references, values, strict=True)
    }


def quick_dice(mask: Mask, reference: NDArray[np.bool_]) -> float:
    """Return Dice by counting, which is fast enough for many masks; 0 for an empty mask."""
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else math.nan
