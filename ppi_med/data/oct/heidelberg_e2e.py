"""Heidelberg `.e2e` through eyepy (extra `oct`): pixels, eye and depth spacing, nothing else.

The format's lateral scale and the distance between B-scans are not known to eyepy, which puts 1
in their place: here they stay unknown.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.data.oct.heidelberg_vol import grey_from_float
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import (
    OctReadError,
    OctVolume,
    Spacing,
    check_size,
    normal_laterality,
)

NAME = "heidelberg-e2e"
_MAGIC = b"CMDb"
_REFUSED = {2: "a circle scan", 5: "a radial scan (star)"}
_EMPTY_ABOVE = 1.99
_SCALE_TOLERANCE = 1e-6
_LARGEST_MM = 0.05


def read(path: Path, options: ReadOptions) -> list[OctVolume]:
    """Read every volume of an `.e2e` file; circle and radial scans are left out."""
    with path.open("rb") as stream:
        head = stream.read(4)
    if head != _MAGIC:
        raise OctReadError(path, f"not an .e2e file: it starts with {head!r}, expected {_MAGIC!r}.")
    volumes, refused = [], []
    try:
        series = list(_open(path).series)
    except (ImportError, OctReadError):
        raise
    except Exception as error:  # eyepy raises whatever the bytes lead it to
        raise OctReadError(path, _damaged(error)) from error
    for number, item in enumerate(series, start=1):
        try:
            volumes.append(_read_series(path, item))
        except OctReadError as error:
            refused.append(f"series {number} of {len(series)} left out: {error.reason}")
        except Exception as error:  # as above; the other series may be sound
            refused.append(f"series {number} of {len(series)} left out: {_damaged(error)}")
    if not volumes:
        raise OctReadError(path, " ".join(refused) or "no OCT series in it.")
    volumes[0].warnings += refused
    return volumes


def _open(path: Path) -> Any:
    try:
        module = import_module("eyepy.io.he.e2e_reader")
    except ImportError as error:
        raise OctReadError(path, "reading .e2e needs eyepy: pip install 'ppi_med[oct]'.") from error
    return module.HeE2eReader(path)


def _damaged(error: BaseException) -> str:
    text = " ".join(str(error).split())[:120]
    return f"damaged or truncated ({type(error).__name__}: {text})."


def _read_series(path: Path, series: Any) -> OctVolume:
    metas = series.get_bscan_meta()
    if not metas:
        raise OctReadError(path, "no B-scans in it.")
    pattern = metas[0]["scan_pattern"]
    if pattern in _REFUSED:
        raise OctReadError(path, f"{_REFUSED[pattern]}, expected parallel B-scans.")
    shape = (int(series.n_bscans), int(metas[0]["size_y"]), int(metas[0]["size_x"]))
    check_size(path, shape, 2, path.stat().st_size)
    raw = np.asarray(series.get_bscans(), np.float32)
    pixels = np.stack([grey_from_float(plane, _EMPTY_ABOVE) for plane in raw])
    volume = OctVolume(pixels, reader=NAME, source=path)
    volume.provenance["pixels"] = "rule: vendor's logarithmic grey scale of the raw intensities"
    volume.laterality = normal_laterality(str(series.laterality()))
    scales = [float(meta["scale_y"]) for meta in metas]
    equal = max(scales) - min(scales) <= _SCALE_TOLERANCE
    if equal and min(scales) > 0 and max(scales) < _LARGEST_MM:
        volume.spacing = Spacing(axial=scales[0])
    return volume
