"""OCT volumes: one reader per vendor format, and the conversion of a folder to NIfTI.

`registry` has the readers by format (`read_oct`), `convert` the conversion of a folder.

Its names are imported on first use, so that a worker process imports only its reader.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "read_oct": "registry",
        "convert_folder": "convert",
        **dict.fromkeys(("ConvertOptions", "ReadOptions", "SplitOptions"), "options"),
        **dict.fromkeys(("OctReadError", "OctVolume", "Spacing"), "volume"),
        **dict.fromkeys(
            (
                "AllSlicesd",
                "EmptyMaskd",
                "FitSlicesd",
                "LoadOctVolumed",
                "NormalizeOctd",
                "SampleSlicesd",
            ),
            "transforms",
        ),
    },
)
