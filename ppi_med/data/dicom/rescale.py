"""Where a file says slope and intercept: once, or in the functional groups of its frames."""

from __future__ import annotations

from typing import Any

SLOPE, INTERCEPT = "RescaleSlope", "RescaleIntercept"


def rescale_holders(dataset: Any, keyword: str) -> list[Any]:
    """Return for each frame the element's holder: its own group, the shared one, or the file.

    Args:
        dataset: pydicom's, of a whole file.
        keyword: `SLOPE` or `INTERCEPT`.

    Returns:
        Data sets whose `get(keyword)` is meant, one a frame; a single one where the frames have no
        groups of their own.
    """
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    common = _inside(shared[0]) if shared else None
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or [None]
    found = []
    for frame in frames:
        own = None if frame is None else _inside(frame)
        holders = [holder for holder in (own, common) if holder is not None and keyword in holder]
        found.append(holders[0] if holders else dataset)
    return found


def _inside(group: Any) -> Any:
    sequence = group.get("PixelValueTransformationSequence") or []
    return sequence[0] if sequence else None
