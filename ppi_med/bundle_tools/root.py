"""Where a running bundle lies, and the folder that its data and runs are kept in."""

from __future__ import annotations

import os
from pathlib import Path

from ppi_med.running import config_folder


def bundle_root(name: str) -> str:
    """Return the folder of a bundle, seen from the current folder.

    It is that of the configuration which is running, or the one above where this lies in the model
    zoo's `configs/`. Where nothing is running: called from a repository's root `bundles/NAME`,
    from inside the bundle `.`, from inside `configs/` `..`.

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
    """Return the folder for data and runs: that around `bundles/`, or else the bundle's own.

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
    """Return the folder relative to the current one where it is inside, or is the one above."""
    here = Path.cwd()
    inside_or_above = folder.is_relative_to(here) or folder == here.parent
    return os.path.relpath(folder, here) if inside_or_above else str(folder)
