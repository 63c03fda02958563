"""The folder of a running bundle, and the folder of its data and runs."""

from __future__ import annotations

import os
from pathlib import Path

from ppi_med.running import config_folder


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
