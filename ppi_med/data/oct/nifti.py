"""OCT volumes as NIfTI: axes (A-scan, depth, B-scan), 8 bits, mm or openly unknown."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.volume import Spacing
from ppi_med.io import atomic_path


def write_nifti(path: str | Path, pixels: NDArray[np.uint8], spacing: Spacing) -> Path:
    """Write `(S, H, W)` pixels as NIfTI.

    Where all three distances are known the units are mm and the scanner's own frame is stated
    (code 1). Where any is unknown that axis has pixdim 1, and the units and both form codes say
    unknown (0): the numbers are then no distances.

    Args:
        path: ends in `.nii.gz` or `.nii`; the same pixels always give the same bytes.
        pixels: uint8, `(n_bscans, depth, width)`.
        spacing: mm.

    Returns:
        The path.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.nii.gz"
        >>> _ = write_nifti(path, np.zeros((2, 4, 3), np.uint8), Spacing(axial=0.004))
        >>> read_nifti(path)[1]
        Spacing(lateral=None, axial=None, between=None)
    """
    nib: Any = import_module("nibabel")
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (S, H, W).")
    sizes = [1.0 if value is None else float(value) for value in spacing]
    code = 1 if spacing.known else 0
    image = nib.Nifti1Image(pixels.transpose(2, 1, 0), np.diag([*sizes, 1.0]))
    image.header.set_data_dtype(np.uint8)
    image.set_qform(image.affine, code)
    image.set_sform(image.affine, code)
    image.header.set_zooms(sizes)
    image.header.set_xyzt_units("mm" if spacing.known else "unknown", "unknown")
    path = Path(path)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def read_nifti(path: str | Path) -> tuple[NDArray[Any], Spacing]:
    """Return `(S, H, W)` pixels and the spacing, all unknown where the header's units are.

    Raises:
        ValueError: for a file without three axes.
    """
    nib: Any = import_module("nibabel")
    image = nib.load(path)
    if len(image.shape) != 3:
        raise ValueError(f"{Path(path).name}: shape {image.shape}, expected three axes.")
    pixels = np.asarray(image.dataobj).transpose(2, 1, 0)
    if image.header.get_xyzt_units()[0] != "mm":
        return pixels, Spacing()
    # pixdim is stored in 32 bits: seven figures are what it can tell
    lateral, axial, between = (float(f"{zoom:.7g}") for zoom in image.header.get_zooms()[:3])
    return pixels, Spacing(lateral, axial, between)
