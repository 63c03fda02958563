"""LIDC-IDRI: the readers' outlines, patches cut from CT, and a published set of them.

- `annotations`: the database of outlines, their pixels, and their grouping into nodules.
- `plan`, `cut`, `scan_worker`, `extract`: from a DICOM tree to patches in Zarr
  (`zarr_store`); `report`: the result; `job`: as a bundle's component and as a command.
- `nodules_npz`: nodules in arrays with a table; `datasets`: both as data sets of torch.
- `cases`, `transforms`: both in the bundles.

Nothing is imported here, so that a worker process imports only what it runs.
"""
