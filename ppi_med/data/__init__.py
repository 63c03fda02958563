"""Data: manifest, splits and datalist, and the readers of `oct`, `dicom`, `lidc` and `photos`.

Its names are imported on first use, so that a worker process imports only its reader.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("ManifestRow", "read_manifest", "write_manifest"), "manifest"),
        **dict.fromkeys(("Splits", "make_splits", "read_splits", "write_splits"), "splits"),
        **dict.fromkeys(("load_parts", "make_datalist", "write_datalist"), "datalist"),
        "EmptyMaskd": "oct.transforms",
        "PacedCacheDataset": "cache",
    },
)
