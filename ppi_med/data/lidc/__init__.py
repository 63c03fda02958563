"""LIDC-IDRI: the readers' outlines, patches cut from CT, and a published set of them.

- `annotations`: the database of outlines; `masks`: from outline to pixels; `nodules`: which
  outlines are one nodule.
- `plan`, `cut`, `tasks`, `extract`, `outputs`: from a DICOM tree to patches in Zarr; `extraction`,
  `report`: what came of it.
- `patches`, `nodules_npz`: data sets for training.

Nothing is imported here, so that a worker process pays only for what it runs.
"""
