"""The bundle that is running, as seen from the code that its configuration calls.

MONAI gives components no access to the parser that makes them or to the workflow that runs them, so
these are found among the callers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai.bundle import ConfigParser


def running_parser() -> ConfigParser | None:
    """Return the parser of the bundle that is running; None if no bundle runs.

    The outermost: a bundle may run another's parser inside.
    """
    if "monai.bundle" not in sys.modules:
        return None
    from monai.bundle import ConfigParser

    found = [caller for caller in _callers() if isinstance(caller, ConfigParser)]
    return found[-1] if found else None


def config_folder() -> Path | None:
    """Return the folder of the (first) configuration that is running or being checked."""
    found = None
    for caller in _callers():
        folder = getattr(caller, "__dict__", {}).get("config_root_path")
        if isinstance(folder, Path):
            found = folder
    return found


def _callers() -> Iterator[Any]:
    """Yield the `self` of each method that is being executed, innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if "self" in frame.f_code.co_varnames:
            yield frame.f_locals.get("self")
        frame = frame.f_back
