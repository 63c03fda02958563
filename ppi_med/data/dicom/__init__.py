"""DICOM intake: from any tree of files to an index of series, and from a series to a volume.

- `tree`: the files of a tree, those in zip archives too; `header`: what is read of each.
- `geometry`: whether a series is a volume, by tolerances in mm; `verdict`: all reasons against it.
- `index`: the tree's index; `table`: how it is written; `pseudonyms`: what stands for names.
- `pixels`: whether a file's are all there, and decoding; `values`: what a stored value means;
  `volume`: a series as one array in Hounsfield units.
- `store`: the headers on disk; `command`: `ppi-med index-dicom`.

Nothing is imported here, so that a worker process imports only what it runs.
"""
