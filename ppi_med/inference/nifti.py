"""A map as NIfTI, in the geometry of the volume it belongs to."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.volume import Spacing
from ppi_med.io import atomic_path


def write_map(path: str | Path, saliency: NDArray[np.float32], spacing: Spacing) -> Path:
    """Write a map so that it lies on its volume in every viewer.

    Axes, affine, units and form codes are those that `write_nifti` gives a volume of this spacing:
    where a distance is unknown, the header says so.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        saliency: float32, `(S, H, W)`.
        spacing: mm, of the volume.

    Returns:
        The path.

    Raises:
        ValueError: for a map of other axes or type.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "map.nii.gz"
        >>> write_map(path, np.zeros((2, 4, 3), np.float32), Spacing()).name
        'map.nii.gz'
    """
    nib: Any = import_module("nibabel")
    if saliency.ndim != 3 or saliency.dtype != np.float32:
        raise ValueError(
            f"the map is {saliency.dtype} {saliency.shape}, expected float32 (S, H, W)."
        )
    path = Path(path)
    with atomic_path(path) as temporary:
        # The volume's own writer decides on the geometry, so that the two cannot differ.
        write_nifti(temporary, np.zeros(saliency.shape, np.uint8), spacing)
        header = nib.load(temporary).header.copy()
        header.set_data_dtype(np.float32)
        header.set_slope_inter(1, 0)
        image = nib.Nifti1Image(saliency.transpose(2, 1, 0), None, header)
        nib.save(image, temporary)
    return path
