"""Training methods to compare PPI with: each one handler on a stock trainer, by name.

- ``strong_augmentation``: geometry, grey values, noise, blur and erasing, drawn for each image.
- ``group_dro``: the worst group's loss counts most (Sagawa et al., 2020).
- ``irm``: one classifier that is optimal at every site (Arjovsky et al., 2019).
- ``rsc``: the features that speak loudest are left out (Huang et al., 2020).
- ``right_reasons``: no gradient outside the lesion (Ross et al., 2017); it sees the masks.

Masking at random places is a control of PPI itself: ``random_mask``, ``random_exchange``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ppi_med.baselines.base import Baseline

__all__ = ["BASELINES", "Baseline", "baseline"]


def _augmentation(seed: int, slice_axis: int | None, options: dict[str, Any]) -> Baseline:
    from ppi_med.baselines.strong_augmentation import StrongAugmentation

    return StrongAugmentation(seed=seed, slice_axis=slice_axis, **options)


def _group_dro(seed: int, slice_axis: int | None, options: dict[str, Any]) -> Baseline:
    from ppi_med.baselines.group_dro import GroupDRO

    return GroupDRO(**options)


def _irm(seed: int, slice_axis: int | None, options: dict[str, Any]) -> Baseline:
    from ppi_med.baselines.irm import IRM

    return IRM(**options)


def _rsc(seed: int, slice_axis: int | None, options: dict[str, Any]) -> Baseline:
    from ppi_med.baselines.rsc import RSC

    return RSC(**options)


def _right_reasons(seed: int, slice_axis: int | None, options: dict[str, Any]) -> Baseline:
    from ppi_med.baselines.right_reasons import RightReasons

    return RightReasons(**options)


_MAKERS: dict[str, Callable[[int, int | None, dict[str, Any]], Baseline]] = {
    "strong_augmentation": _augmentation,
    "group_dro": _group_dro,
    "irm": _irm,
    "rsc": _rsc,
    "right_reasons": _right_reasons,
}
BASELINES = tuple(_MAKERS)


def baseline(
    name: str, *, seed: int = 0, slice_axis: int | None = None, **options: Any
) -> Baseline:
    """Return the handler of a baseline.

    Args:
        name: one of `BASELINES`.
        seed: of what is drawn.
        slice_axis: axis of ``(N, C, *spatial)`` along which an image is moved as a whole.
        options: of the handler.

    Example:
        >>> baseline("irm", weight=10.0).weight
        10.0
    """
    return _MAKERS[name](seed, slice_axis, options)
