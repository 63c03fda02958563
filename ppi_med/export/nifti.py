"""A map or mask as NIfTI in the geometry of the series it belongs to."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.export.source import Source
from ppi_med.io import atomic_path


def write_nifti(path: str | Path, values: NDArray[Any], source: Source) -> Path:
    """Write an array of a series so that it lies on it in every viewer.

    Axes are column, row, slice; the affine is the series', with DICOM's left and back turned into
    NIfTI's right and front.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        values: bool, written as uint8, or float, written as float32; `(slices, rows, columns)`.
        source: the series.

    Returns:
        The path.

    Raises:
        ValueError: for an array of another shape.
    """
    image = nifti_image(values, source)
    with atomic_path(path) as temporary:
        image.to_filename(temporary)
    return Path(path)


def nifti_image(values: NDArray[Any], source: Source) -> Any:
    """Return what `write_nifti` writes, as nibabel's image."""
    source.check(values.shape, "array")
    nib: Any = import_module("nibabel")
    kind = np.uint8 if values.dtype == bool else np.float32
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ source.volume.affine
    image = nib.Nifti1Image(values.astype(kind).transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    # 1: the scanner's coordinates.
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image
