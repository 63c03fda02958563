"""DICOM intake: from any tree of files to an index of series, and from a series to a volume.

- `tree`: the files of a tree, also in zip archives; `header`: the facts read from each.
- `geometry`: whether a series is a volume, by tolerances in mm; `verdict`: all reasons against it.
- `index`: the tree's index; `table`: its file; `pseudonyms`: replacements of names.
- `pixels`: completeness and decoding; `values`: the meaning of a stored value;
  `volume`: a series as one array in Hounsfield units.
- `store`: the headers on disk; `command`: `ppi-med index-dicom`.

Its names are imported on first use, so that a worker process imports only what it runs.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("IndexSummary", "index_tree"), "index"),
        **dict.fromkeys(("DicomVolume", "GeometryError", "read_volume"), "volume"),
        "Pseudonyms": "pseudonyms",
        "Policy": "verdict",
    },
)
