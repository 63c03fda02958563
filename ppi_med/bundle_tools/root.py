"""Where a running bundle lies, and the folder that its data and runs are kept in."""

from __future__ import annotations

from pathlib import Path


def bundle_root(name: str) -> str:
    """Return the folder of a bundle, seen from the current folder.

    Called from a repository's root it is ``bundles/NAME``; from inside the bundle ``.``; from
    inside the model zoo's ``configs/`` ``..``.

    Args:
        name: the bundle's folder name.

    Example:
        >>> bundle_root("no_such_bundle")
        '.'
    """
    flat = Path("bundles") / name
    if (flat / "metadata.json").is_file():
        return str(flat)
    if Path.cwd().name == "configs" and (Path("..") / "configs" / "metadata.json").is_file():
        return ".."
    return "."


def workspace(root: str) -> str:
    """Return the folder for data and runs: that around ``bundles/``, or else the bundle's own.

    Args:
        root: the bundle's folder, from :func:`bundle_root`.

    Example:
        >>> workspace("elsewhere/ga_ppi")
        'elsewhere/ga_ppi'
    """
    folder = Path(root).resolve()
    if folder.parent.name != "bundles":
        return root
    around = folder.parent.parent
    return "." if around == Path.cwd() else str(around)
