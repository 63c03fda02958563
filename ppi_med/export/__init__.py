"""Maps and masks of a CT series for viewers: DICOM SEG, parametric map, pictures, NIfTI.

- `source`: the series that is referred to, checked.
- `arrays`: maps and masks from outside, and as NIfTI.
- `series`: a network's map and mask in the series' volume.
- `dicom`: SEG and parametric map (highdicom, extra `dicom`); `capture`: slices with both drawn in.
- `command`: `ppi-med export-dicom`.

Nothing is imported here, so that NIfTI does not cost highdicom.
"""
