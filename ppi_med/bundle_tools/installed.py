"""A bundle's files, flat or in `configs/`; the bundles of the package: listed, copied, tried."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ppi_med
from ppi_med.errors import UsageError, did_you_mean
from ppi_med.io import exclusive

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
METADATA = "metadata.json"
WORKFLOWS = ("train", "evaluate", "inference", "extract")


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and the folder of its configurations (the same one in the flat layout)."""

    root: Path
    config_folder: Path

    @property
    def name(self) -> str:
        """The bundle's name: that of its folder."""
        return self.root.resolve().name

    @property
    def metadata(self) -> Path:
        """The path of `metadata.json`."""
        return self.config_folder / METADATA

    def config_files(self) -> list[Path]:
        """Return all configuration files, sorted by name, without hidden ones."""
        files = (f for f in self.config_folder.iterdir() if not f.name.startswith("."))
        return sorted(f for f in files if f.is_file() and f.suffix.lower() in CONFIG_SUFFIXES)

    def workflows(self) -> list[Path]:
        """Return the train, evaluate, inference and extract configurations that exist."""
        by_name = {file.stem: file for file in self.config_files()}
        return [by_name[name] for name in WORKFLOWS if name in by_name]


def open_bundle(folder: Path) -> Bundle:
    """Find the parts of the bundle in `folder`.

    Args:
        folder: the bundle's own folder, flat or with a folder `configs` inside.

    Raises:
        UsageError: if it is not a folder, or has no configuration of `WORKFLOWS`.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give the folder of a bundle.")
    configs = folder / "configs"
    bundle = Bundle(folder, configs if configs.is_dir() else folder)
    if not bundle.workflows():
        wanted = ", ".join(f"{name}.json" for name in WORKFLOWS)
        raise UsageError(
            f"{bundle.config_folder} holds no configuration of a bundle, expected one of {wanted}: "
            "give the folder that contains them."
        )
    return bundle


# Made by runs; not copied.
_OF_RUNS = ("runs", "outputs", "eval", "__pycache__", "*.db", "mlruns")


@dataclass(frozen=True)
class InstalledBundle:
    """A bundle that comes with the package."""

    name: str
    folder: Path
    version: str
    title: str


def bundles_folder() -> Path:
    """Return the folder of the bundles: inside an installed package, next to it in a clone.

    Raises:
        UsageError: if neither is there.
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
        target: the new folder; an existing folder gets the bundle inside it, under its own name.

    Returns:
        The copy.

    Raises:
        UsageError: for an unknown bundle, or if the copy's folder already exists.
    """
    bundle, target = find_bundle(name), Path(target)
    copy = target / name if target.is_dir() else target
    if copy.exists():
        raise UsageError(f"{copy} already exists: name another folder, or remove it.")
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{copy.name}.", dir=copy.parent) as temporary:
        whole = Path(temporary) / name
        shutil.copytree(bundle.folder, whole, ignore=shutil.ignore_patterns(*_OF_RUNS))
        whole.rename(copy)
    return copy


def default_bundle(name: str) -> Path:
    """Return `bundles/NAME` of the current folder, or else the package's own."""
    here = Path("bundles") / name
    return here if (here / "metadata.json").is_file() else find_bundle(name).folder


_BUNDLE, _DATA = Path("bundles") / "ga_ppi", Path("data") / "ga_phantom"


def run_demo(
    folder: str | Path, settings: Mapping[str, Any], *, say: Callable[[str], object] = print
) -> int:
    """Train `ga_ppi` on the OCT phantom in a folder, which gets both if they are missing.

    Args:
        folder: gets `data/ga_phantom`, `bundles/ga_ppi`, `mlruns.db`; existing ones are used as
            they are.
        settings: values of the training's keys, such as {"max_epochs": 2}.
        say: function that gets each line for the user.

    Returns:
        The exit code of the training.

    Raises:
        UsageError: if the folder has an incomplete data set, or another demonstration runs in it.
    """
    root = Path(folder)
    with exclusive(root, "demonstration"):
        return _run(root, settings, say)


def _run(root: Path, settings: Mapping[str, Any], say: Callable[[str], object]) -> int:
    if not (root / _DATA / "datalist.json").is_file():
        _make_phantom(root / _DATA)
    if not (root / _BUNDLE / "train.json").is_file():
        (root / _BUNDLE).parent.mkdir(exist_ok=True)
        copy_bundle("ga_ppi", root / _BUNDLE)
    command = ["-m", "monai.bundle", "run", "--config_file", str(_BUNDLE / "train.json")]
    for key, value in settings.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    code = subprocess.run([sys.executable, *command], cwd=root, env=_environment()).returncode
    if code == 0:
        say("")
        say(f"The data set, the bundle and the runs are in {root.resolve()}. From there:")
        say("  ppi-med ui")
        say("shows the runs, their curves, pictures and models; its address is printed above.")
        say("The same training as a MONAI bundle:")
        say(f"  python {' '.join(command)}")
    return code


def _make_phantom(folder: Path) -> None:
    from ppi_med.phantoms.oct.spec import OctPhantomSpec
    from ppi_med.phantoms.oct.write import make_oct_phantom

    spec = OctPhantomSpec()
    report = make_oct_phantom(spec, folder, workers=os.cpu_count() or 1, progress=True)
    if report.exit_code:
        raise UsageError(f"The phantom in {folder} is incomplete: {report.table()}")


def _environment() -> dict[str, str]:
    """Switch off the libraries' telemetry, as in `make train`."""
    return {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
