"""One measured piece of `lidc_extract.py`, in a process of its own; answers in a JSON file.

    python benchmarks/_lidc_extract_child.py pylidc TREE OUT ANSWER
    python benchmarks/_lidc_extract_child.py ours TREE OUT ANSWER SCHEDULER WORKERS

The second of two runs in the process is timed, for either: what the first imports does not count.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

SIZE, PADDING = 128, -2000
DASK = "dask"


def pylidc_package(tree: Path, home: Path) -> Any:
    """Import pylidc 0.2.3 beside today's numpy and setuptools, its settings in a passing home."""
    from ppi_med.data.lidc.annotations import database_path

    home.mkdir(exist_ok=True)
    (home / ".pylidcrc").write_text(f"[dicom]\npath = {tree.resolve()}\nwarn = False\n")
    os.environ["HOME"] = str(home)
    folder = database_path().parent
    stub = types.ModuleType("pkg_resources")
    stub.resource_filename = lambda _, name: str(folder / name)  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", stub)
    for name, kind in (("int", int), ("float", float), ("bool", bool)):
        if name not in vars(np):
            setattr(np, name, kind)
    # Gone from Python 3.12; pylidc reads its settings by that name.
    vars(configparser).setdefault("SafeConfigParser", configparser.ConfigParser)
    import pylidc

    return pylidc


def by_pylidc(pylidc: Any, series_uid: str) -> dict[str, Any]:
    """Cut the same patches from pylidc's volume; nothing is written."""
    query = pylidc.query(pylidc.Scan)
    scan = query.filter(pylidc.Scan.series_instance_uid == series_uid).one()
    volume = scan.to_volume(verbose=False)
    patches: dict[str, Any] = {}
    for cluster in scan.cluster_annotations(verbose=False):
        contours = [c for a in cluster for c in a.contours if c.inclusion]
        masks = [(a.boolean_mask(), a.bbox()) for a in cluster]
        for z in sorted({c.image_z_position for c in contours}):
            outline = np.concatenate(
                [c.to_matrix(include_k=False) for c in contours if c.image_z_position == z]
            )
            center = (outline.min(axis=0) + outline.max(axis=0)) // 2
            index = int(np.flatnonzero(np.isclose(scan.slice_zvals, z))[0])
            union = np.zeros(volume.shape[:2], np.uint8)
            for mask, box in masks:
                if box[2].start <= index < box[2].stop:
                    union[box[0], box[1]] |= mask[:, :, index - box[2].start]
            key = patch_key(z, (a.id for a in cluster))
            patches[f"{key}:hu"] = window(volume[:, :, index], center, PADDING)
            patches[f"{key}:union"] = window(union, center, 0)
    return patches


def patch_key(z_mm: float, annotations: Any) -> str:
    """Name a patch by its slice and the annotations of its nodule."""
    return f"{z_mm:g}/" + "-".join(str(number) for number in sorted(annotations))


def window(image: Any, center: Any, fill: int) -> Any:
    """Return the square around a pixel, `fill` outside the image."""
    half = SIZE // 2
    padded = np.pad(image, half, constant_values=fill)
    row, column = (int(k) for k in center)
    return padded[row : row + SIZE, column : column + SIZE]


@contextlib.contextmanager
def scheduler_at(name: str, workers: int) -> Iterator[str]:
    """Give `extract_patches` its scheduler; a Dask cluster lives as long as the block."""
    if name != DASK:
        yield name
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield str(cluster.scheduler_address)


def measure_pylidc(tree: Path, out: Path) -> dict[str, Any]:
    """Read the one LIDC series of a patient's folder as pylidc's users do."""
    import pydicom

    package = pylidc_package(tree.parent, out.parent / "pylidc-home")
    first = min(tree.rglob("*.dcm"))
    series = str(pydicom.dcmread(first, stop_before_pixels=True).SeriesInstanceUID)
    by_pylidc(package, series)
    started = time.perf_counter()
    patches = by_pylidc(package, series)
    seconds = time.perf_counter() - started
    np.savez(out, **patches)
    return {"seconds": seconds, "patches": len(patches) // 2}


def measure_ours(tree: Path, out: Path, scheduler: str, workers: int) -> dict[str, Any]:
    """Extract a tree's patches, index, Zarr, manifest and report included."""
    # One patient is enough to import everything.
    warm_up = min((p for p in tree.iterdir() if p.is_dir()), default=tree)
    from _memory import own_peak_mib

    from ppi_med.data.lidc.extract import extract_patches

    with scheduler_at(scheduler, workers) as address:
        with tempfile.TemporaryDirectory(dir=out.parent) as first:
            extract_patches(warm_up, first, scheduler=address, workers=workers)
        started = time.perf_counter()
        result = extract_patches(tree, out, scheduler=address, workers=workers)
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "patches": result.patches,
        "scans": sum(result.scans.values()),
        "opened": result.opened,
        "contour_slices": result.contour_slices,
        "failures": len(result.failures),
        "peak_mib": own_peak_mib(),
    }


def main(kind: str, tree: str, out: str, answer: str, *how: str) -> None:
    """Measure and write the answer."""
    if kind == "pylidc":
        content = measure_pylidc(Path(tree), Path(out))
    else:
        scheduler, workers = how
        content = measure_ours(Path(tree), Path(out), scheduler, int(workers))
    Path(answer).write_text(json.dumps(content))


if __name__ == "__main__":
    main(*sys.argv[1:])
