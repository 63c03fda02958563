"""Maps and masks of a CT series for viewers: DICOM SEG, parametric map, NIfTI.

- `source`: the series that is referred to; `series`: a network's map and mask in its volume.
- `dicom`: SEG and parametric map (highdicom, extra `dicom`); `nifti`: in the series' geometry.
- `command`: `data_prep/export_dicom.py`.

Nothing is imported here, so that NIfTI does not cost highdicom.
"""
