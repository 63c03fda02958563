"""Maps and masks of a CT series for viewers: DICOM SEG, parametric map, pictures, NIfTI.

- `source`: the checked series that the files refer to.
- `arrays`: reading maps and masks, and writing them as NIfTI.
- `series`: a network's map and mask in the series' volume.
- `dicom`: SEG and parametric map (highdicom, extra `dicom`); `capture`: slices with both drawn in.
- `command`: `ppi-med export-dicom`.

Nothing is imported here, so that NIfTI does not need highdicom.
"""
