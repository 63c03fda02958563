"""What the record of a run says of its data: which they are, and from which sites."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ppi_med.data.manifest import data_hash, iter_manifest
from ppi_med.data.splits import FILE_NAME, read_splits
from ppi_med.naming import TAG_DATA_HASH, TAG_SPLIT_HASH

MANIFESTS = ("manifest.csv", "manifest.parquet")


def dataset_hashes(folder: str | os.PathLike[str]) -> dict[str, str | None]:
    """Return the hashes of a converted data set's manifest and splits, as tags of a run.

    Args:
        folder: with ``manifest.csv`` (or ``.parquet``) and ``splits.json``.

    Returns:
        ``data_hash`` and ``split_hash``; None where the file is not there.

    Raises:
        ValueError: where a file is there and cannot be read.

    Example:
        >>> dataset_hashes("no/such/folder")
        {'data_hash': None, 'split_hash': None}
    """
    manifests = [path for name in MANIFESTS if (path := Path(folder) / name).is_file()]
    splits = Path(folder) / FILE_NAME
    return {
        TAG_DATA_HASH: data_hash(iter_manifest(manifests[0])) if manifests else None,
        TAG_SPLIT_HASH: read_splits(splits).hash if splits.is_file() else None,
    }


def sites_tag(
    sites: Sequence[str] | str | None, exclude_sites: Sequence[str] | str | None = None
) -> str:
    """Return a choice of sites as one word.

    Args:
        sites: those kept; None, or none: all.
        exclude_sites: those left out.

    Examples:
        >>> sites_tag(None), sites_tag("a"), sites_tag(["a", "b"]), sites_tag([], ["c"])
        ('all', 'a', 'a+b', 'all-c')
    """
    return "-".join(["+".join(_listed(sites)) or "all", *_listed(exclude_sites)])


def _listed(sites: Sequence[str] | str | None) -> list[str]:
    return [sites] if isinstance(sites, str) and sites else [str(site) for site in sites or ()]
