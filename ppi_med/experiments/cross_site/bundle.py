"""What a sweep has to know of a bundle: its keys, its sites, which data it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.experiments.cross_site.matrix import PLAIN

NEEDED = (
    "dataset_dir",
    "sites",
    "test_sites",
    "method",
    "method_options",
    "seed",
    "run_name",
    "output_dir",
    "ckpt_dir",
    "tracking_uri",
    "experiment",
    "tags",
)
"""Keys that a classification bundle must have for a sweep to set them."""

_PARTS = ("train", "validate", "test")


@dataclass(frozen=True)
class DataFacts:
    """What a bundle says of its data.

    Attributes:
        sites: of all its cases, sorted.
        hashes: of data and splits.
    """

    sites: tuple[str, ...]
    hashes: Mapping[str, str | None]


def config_files(bundle: Path, overlays: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """Return ``train.json`` of a bundle and its overlays; names are looked for in the bundle.

    Raises:
        MissingFileError: where a file does not exist.
    """
    files = [bundle / "train.json"]
    for overlay in overlays:
        inside = bundle / overlay
        files.append(inside if inside.is_file() else Path(overlay))
    for file in files:
        if not file.is_file():
            raise MissingFileError(
                f"There is no {file}: name a bundle's folder, such as bundles/ga_ppi, and "
                "overlays by their name in it."
            )
    return tuple(files)


def default_methods(files: Sequence[Path]) -> tuple[str, ...]:
    """Return plain training and the method that the configurations train by default."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    own = parser.get_parsed_content("method") if "method" in parser.get() else PLAIN
    return tuple(dict.fromkeys((PLAIN, str(own))))


def config_hash(files: Sequence[Path]) -> str:
    """Return a hash of what the configurations say."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


def data_facts(files: Sequence[Path], overrides: Mapping[str, Any]) -> DataFacts:
    """Return what a bundle says of its data, without building anything else of it.

    Args:
        files: the configuration and its overlays.
        overrides: id -> value, such as ``dataset_dir``.

    Raises:
        UsageError: where the bundle lacks a key, or its cases name no site.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    missing = [key for key in NEEDED if key not in parser.get()]
    if missing:
        raise UsageError(
            f"{files[0]} has no key {', '.join(missing)}, which a sweep sets in each run: use a "
            "classification bundle like bundles/ga_ppi, or add them."
        )
    # All sites, whatever the configuration would take; its own folder, as in a run.
    every = {"sites": None, "test_sites": None, "bundle_root": files[0].parent.as_posix()}
    for key, value in {**every, **overrides}.items():
        parser[key] = value
    found: set[str] = set()
    for part in _PARTS:
        for case in parser.get_parsed_content(f"{part}#data"):
            found.add(str(case.get("site", "")))
    if "" in found or not found:
        raise UsageError(
            f"Some cases of {parser.get_parsed_content('dataset_dir')} name no site: fill the "
            "manifest's column `site`."
        )
    hashes = parser.get_parsed_content("hashes") if "hashes" in parser.get() else {}
    return DataFacts(tuple(sorted(found)), dict(hashes))
