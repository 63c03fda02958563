"""The bundles that come with the package: from a clone or from a wheel."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import ppi_med
from ppi_med.errors import UsageError, did_you_mean

# Made by runs; a copy starts without them.
_OF_RUNS = ("runs", "outputs", "eval", "__pycache__", "*.db", "mlruns")


@dataclass(frozen=True)
class InstalledBundle:
    """A bundle that comes with the package.

    Attributes:
        name: name of its folder.
        folder: where it is.
        version: version of its metadata.
        title: its name in words.
    """

    name: str
    folder: Path
    version: str
    title: str


def bundles_folder() -> Path:
    """Return the folder of the bundles: inside an installed package, beside it in a clone.

    Raises:
        UsageError: where neither is there.
    """
    package = Path(ppi_med.__file__).resolve().parent
    for folder in (package / "bundles", package.parent / "bundles"):
        if (folder / "ga_ppi" / "metadata.json").is_file():
            return folder
    raise UsageError(f"{package} comes without its bundles: install ppi_med again.")


def installed_bundles() -> list[InstalledBundle]:
    """Return the bundles, by name."""
    found = []
    for file in sorted(bundles_folder().glob("*/metadata.json")):
        facts = json.loads(file.read_text(encoding="utf-8"))
        found.append(
            InstalledBundle(file.parent.name, file.parent, facts["version"], facts["name"])
        )
    return found


def find_bundle(name: str) -> InstalledBundle:
    """Return a bundle by name.

    Raises:
        UsageError: for an unknown one, with the nearest name.
    """
    known = {bundle.name: bundle for bundle in installed_bundles()}
    if name not in known:
        raise UsageError(
            f"There is no bundle {name!r}, expected one of {', '.join(known)}"
            f"{did_you_mean(name, known) or '.'}"
        )
    return known[name]


def copy_bundle(name: str, target: str | Path) -> Path:
    """Copy a bundle to a folder where it can be changed; runs are not copied.

    Args:
        name: name of the bundle.
        target: the new folder; a folder that is there already gets the bundle inside it, under its
            own name.

    Returns:
        The copy.

    Raises:
        UsageError: for an unknown bundle, or where the copy's folder is there already.
    """
    bundle, target = find_bundle(name), Path(target)
    copy = target / name if target.is_dir() else target
    if copy.exists():
        raise UsageError(f"{copy} is there already: name another folder, or remove it.")
    shutil.copytree(bundle.folder, copy, ignore=shutil.ignore_patterns(*_OF_RUNS))
    return copy


def default_bundle(name: str) -> Path:
    """Return `bundles/NAME` of the current folder, or else the one that comes with the package."""
    here = Path("bundles") / name
    return here if (here / "metadata.json").is_file() else find_bundle(name).folder
