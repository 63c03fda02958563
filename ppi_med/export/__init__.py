"""Maps and masks of a CT series for viewers: DICOM SEG, parametric map, pictures, NIfTI.

- `source`: the checked series that the files refer to.
- `arrays`: reading maps and masks, and writing them as NIfTI.
- `series`: a network's map and mask in the series' volume.
- `dicom`: SEG and parametric map (highdicom, extra `dicom`); `capture`: slices with both drawn in.
- `command`: `ppi-med export-dicom`.

Its names are imported on first use, so that NIfTI does not need highdicom.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Source", "read_source"), "source"),
        **dict.fromkeys(("read_map", "read_mask", "write_nifti"), "arrays"),
        **dict.fromkeys(("SeriesAnswer", "explain_series"), "series"),
        **dict.fromkeys(("parametric_map", "segmentation"), "dicom"),
        "captures": "capture",
        "write_all": "command",
    },
)
