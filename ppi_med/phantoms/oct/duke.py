"""Volumes as Duke's `.mat` files (MATLAB v5), the same bytes for the same volume."""

from __future__ import annotations

import io
from pathlib import Path

from scipy.io import savemat

from ppi_med.io import atomic_path
from ppi_med.phantoms.oct.render import Volume

_HEADER = b"MATLAB 5.0 MAT-file, OCT phantom of ppi_med: not a patient"
_HEADER_LENGTH = 116


def write_duke_mat(path: str | Path, volume: Volume, *, age: float) -> None:
    """Write a volume as the GA study's files are, with the lesion mask beside it.

    Variables: `images` (depth, width, B-scans) uint8, `layerMaps` (B-scans, width, 3), `Age`, and
    `lesion` (like `images`, 0 or 1), which Duke's files have not.

    Args:
        path: the file; written atomically, folders are made.
        volume: what to write.
        age: of the subject in years.
    """
    stream = io.BytesIO()
    variables = {
        "images": volume.images,
        "layerMaps": volume.layer_maps,
        "Age": float(age),
        "lesion": volume.lesion,
    }
    savemat(stream, variables, format="5", do_compression=True)
    # The library writes the date into the header; a phantom's bytes must not depend on it.
    stream.seek(0)
    stream.write(_HEADER.ljust(_HEADER_LENGTH))
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())
