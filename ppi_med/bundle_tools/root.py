"""The bundle that is running: its parser, its folder, and the folder of its data and runs.

MONAI gives components no access to the parser that makes them or to the workflow that runs them, so
these are found among the callers.
"""

from __future__ import annotations

import os
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


def bundle_root(name: str) -> str:
    """Return the folder of a bundle, seen from the current folder.

    It is the folder of the running configuration, or its parent if that is the model zoo's
    `configs/`. If nothing is running: `bundles/NAME` in a repository's root, `.` inside the bundle,
    `..` inside `configs/`.

    Args:
        name: the bundle's folder name.

    Examples:
        >>> bundle_root("no_such_bundle")
        '.'
    """
    running = config_folder()
    if running is not None and (running / "metadata.json").is_file():
        folder = running.resolve()
        return _short(folder.parent if folder.name == "configs" else folder)
    flat = Path("bundles") / name
    if (flat / "metadata.json").is_file():
        return str(flat)
    if Path.cwd().name == "configs" and (Path("..") / "configs" / "metadata.json").is_file():
        return ".."
    return "."


def workspace(root: str) -> str:
    """Return the folder for data and runs: the parent of `bundles/`, or else the bundle's own.

    Args:
        root: the bundle's folder, from `bundle_root`.

    Examples:
        >>> workspace("elsewhere/ga_ppi")
        'elsewhere/ga_ppi'
    """
    folder = Path(root).resolve()
    if folder.parent.name != "bundles":
        return root
    around = folder.parent.parent
    return "." if around == Path.cwd() else str(around)


def _short(folder: Path) -> str:
    """Return the folder relative to the current one if it is inside it, or its parent."""
    here = Path.cwd()
    inside_or_above = folder.is_relative_to(here) or folder == here.parent
    return os.path.relpath(folder, here) if inside_or_above else str(folder)


def _callers() -> Iterator[Any]:
    """Yield the `self` of each method that is being executed, innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if "self" in frame.f_code.co_varnames:
            yield frame.f_locals.get("self")
        frame = frame.f_back
