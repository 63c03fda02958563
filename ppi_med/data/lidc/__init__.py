"""LIDC-IDRI: the readers' outlines, patches cut from CT, and a published set of them.

- `annotations`: the database of outlines, their pixels, and their grouping into nodules.
- `plan`, `cut`, `scan_worker`, `extract`: from a DICOM tree to patches in Zarr
  (`zarr_store`); `report`: the result; `job`: as a bundle's component and as a command.
- `nodules_npz`: nodules in arrays with a table; `datasets`: both as data sets of torch.
- `cases`, `transforms`: both in the bundles.

Its names are imported on first use, so that a worker process imports only what it runs.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Nodule", "find_nodules", "open_database"), "annotations"),
        "extract_patches": "extract",
        "ExtractionJob": "job",
        **dict.fromkeys(("LidcNodules", "LidcPatches"), "datasets"),
        "read_nodules_npz": "nodules_npz",
        "load_cases": "cases",
        **dict.fromkeys(("LoadPatchd", "NormalizeCtd", "SamplePatchd"), "transforms"),
        "load_patch": "zarr_store",
    },
)
