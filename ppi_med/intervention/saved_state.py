"""Finds where a saved state does not fit its target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def first_difference(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """Return the path of the first part with other entries than expected; None if all fit.

    Values are not compared: they change during training, the entries do not.

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
