"""Where a saved state does not fit what it would be loaded into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def first_difference(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """Return the path of the first part that has other entries than it should; None if none has.

    Values are not compared: they change during training, what is remembered does not.

    >>> first_difference({"weights": {"con": {}}}, {"weights": {"con": {"running": None}}})
    'weights.con'
    """
    if saved.keys() != own.keys():
        return ""
    for name, part in own.items():
        if not isinstance(part, Mapping):
            continue
        other = saved[name]
        found = first_difference(other, part) if isinstance(other, Mapping) else ""
        if found is not None:
            return f"{name}.{found}" if found else name
    return None
