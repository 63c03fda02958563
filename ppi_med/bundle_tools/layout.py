"""The layout of a bundle: flat in its folder, or in the model zoo's `configs/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ppi_med.errors import UsageError

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
