"""One series of the LIDC phantom as DICOM files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.values import PADDING
from ppi_med.data.lidc.annotations import Nodule, Scan
from ppi_med.phantoms.base import stream
from ppi_med.phantoms.ct.chest import (
    Chest,
    Floats,
    Grid,
    draw_chest,
    fill_nodule,
    room_for,
    slice_of,
    votes_on_slice,
)
from ppi_med.phantoms.ct.spec import MARK_HU, MARK_REACH_MM, MARKS, CtSite, PlannedScan

SIZE = 512
"""Rows and columns of a slice, as in LIDC."""


@dataclass(frozen=True)
class Patient:
    """The inputs of a series' slices."""

    scan: Scan
    nodules: tuple[Nodule, ...]
    chest: Chest
    site: CtSite
    marked: frozenset[str]
    seed: int


def stored_slice(patient: Patient, z_mm: float) -> NDArray[np.int16]:
    """Return the stored values of a slice: HU minus the site's intercept.

    Returns:
        int16, `(512, 512)`.
    """
    scan, site = patient.scan, patient.site
    grid = Grid.square(SIZE, scan.pixel_spacing)
    found = []
    for nodule in patient.nodules:
        votes = votes_on_slice(nodule.members, z_mm)
        if votes is not None:
            found.append((nodule, *votes))
    room = np.zeros((SIZE, SIZE), bool)
    for _, window, _ in found:
        room |= room_for(grid, *window)
    hu = slice_of(patient.chest, grid, z_mm, room)
    for nodule, window, share in found:
        rng = stream(patient.seed, scan.series_uid, nodule.nodule_id, f"{z_mm:.3f}")
        fill_nodule(hu, window, share, nodule.members, scan.pixel_spacing, rng)
    rng = stream(patient.seed, scan.series_uid, f"{z_mm:.3f}", "noise")
    hu = _through_scanner(hu, site, scan, rng)
    for nodule, window, _ in found:
        if nodule.nodule_id in patient.marked:
            _mark(hu, grid, window, site)
    stored = np.clip(np.rint(hu), -1024, 3071).astype(np.int16) - np.int16(site.intercept)
    if site.padding:
        stored[~grid.ellipse(0, 0, *(SIZE * scan.pixel_spacing / 2,) * 2)] = PADDING
    return np.asarray(stored)


def _through_scanner(hu: Floats, site: CtSite, scan: Scan, rng: np.random.Generator) -> Floats:
    from scipy.ndimage import gaussian_filter

    mm = scan.pixel_spacing
    image = gaussian_filter(hu, site.blur_mm / mm, truncate=3.0)
    if site.sharpening:
        image += site.sharpening * (image - gaussian_filter(image, site.blur_mm / mm, truncate=3.0))
    grain = gaussian_filter(
        rng.standard_normal(hu.shape, dtype=np.float32), site.grain_mm / mm, truncate=3.0
    )
    # Thin slices are noisier: fewer photons.
    noise = site.noise_hu * np.sqrt(2.5 / max(scan.slice_thickness, 0.5))
    return np.asarray(image + grain * (noise / max(float(grain.std()), 1e-6)), dtype=np.float32)


def _mark(hu: Floats, grid: Grid, window: tuple[slice, slice], site: CtSite) -> None:
    rows, columns = window
    middle = [0.5 * (part.start + part.stop - 1) for part in (rows, columns)]
    y, x = ((m - (SIZE - 1) / 2) * grid.spacing for m in middle)
    y, x = y + site.mark_offset_mm[0], x + site.mark_offset_mm[1]
    place = grid.window(x, y, MARK_REACH_MM)
    down = (grid.y[place[0]] - y).astype(np.float64)
    right = (grid.x[:, place[1]] - x).astype(np.float64)
    shape = np.broadcast_shapes(down.shape, right.shape)
    inside = MARKS[site.mark](np.broadcast_to(down, shape), np.broadcast_to(right, shape))
    hu[place][inside] = MARK_HU


def heights_of(nodules: Sequence[Nodule]) -> list[float]:
    """Return the positions with a contour of any reader, exclusions included, sorted."""
    return sorted({c.z_mm for n in nodules for m in n.members for c in m.contours})


COMMENT = "Phantom: simulated CT around the outlines of LIDC-IDRI; no patient is shown."


@dataclass(frozen=True)
class SeriesJob:
    """A series to write."""

    planned: PlannedScan
    heights: tuple[float, ...]
    marked: frozenset[str]
    seed: int
    folder: Path


def write_series(job: SeriesJob) -> int:
    """Write a series; the folder appears when it is complete. Return its number of slices."""
    if job.folder.is_dir():
        return len(job.heights)
    scan = job.planned.scan
    ends = float(scan.z_mm.min()), float(scan.z_mm.max())
    chest = draw_chest(stream(job.seed, scan.series_uid, "chest"), ends)
    patient = Patient(scan, job.planned.nodules, chest, job.planned.site, job.marked, job.seed)
    partial = job.folder.with_name(f".{job.folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for z_mm in job.heights:
        number = int(np.abs(scan.z_mm - z_mm).argmin()) + 1
        dataset = _dataset(job, number, z_mm, stored_slice(patient, z_mm))
        dataset.save_as(partial / f"{number:04d}.dcm", enforce_file_format=True)
    os.replace(partial, job.folder)
    return len(job.heights)


def _dataset(job: SeriesJob, number: int, z_mm: float, stored: NDArray[np.int16]) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    scan, site = job.planned.scan, job.planned.site
    corner = -(SIZE - 1) / 2 * scan.pixel_spacing
    dataset = Dataset()
    values: dict[str, Any] = {
        "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=[scan.series_uid, f"{z_mm:.4f}"]),
        "Modality": "CT",
        "Manufacturer": site.name,
        "ManufacturerModelName": site.model,
        "PatientID": scan.patient_id,
        "PatientName": scan.patient_id,
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "simulated",
        "StudyInstanceUID": scan.study_uid,
        "SeriesInstanceUID": scan.series_uid,
        "FrameOfReferenceUID": generate_uid(entropy_srcs=[scan.series_uid, "frame"]),
        "SeriesNumber": 1,
        "InstanceNumber": number,
        "ImageComments": COMMENT,
        "ConvolutionKernel": site.kernel,
        "SliceThickness": f"{scan.slice_thickness:g}",
        "ImagePositionPatient": [f"{corner:.6f}", f"{corner:.6f}", f"{z_mm:.10g}"],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [f"{scan.pixel_spacing:.10g}"] * 2,
        "RescaleSlope": 1,
        "RescaleIntercept": site.intercept,
        "RescaleType": "HU",
        "WindowCenter": -500,
        "WindowWidth": 1500,
        "Rows": SIZE,
        "Columns": SIZE,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }
    if scan.contrast_used:
        values["ContrastBolusAgent"] = "simulated"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = stored.astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset
