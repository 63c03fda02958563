"""One series of the LIDC phantom as DICOM files."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.phantoms.ct.chest import draw_chest
from ppi_med.phantoms.ct.image import SIZE, Patient, stored_slice
from ppi_med.phantoms.ct.spec import PlannedScan
from ppi_med.phantoms.streams import stream

COMMENT = "Phantom: simulated CT around the outlines of LIDC-IDRI; no patient is shown."


@dataclass(frozen=True)
class SeriesJob:
    """A series to write.

    Attributes:
        planned: scan, nodules and scanner.
        heights: positions of the slices to write.
        marked: ids of the nodules with the site's mark.
        seed: of the phantom.
        folder: where the series goes.
    """

    planned: PlannedScan
    heights: tuple[float, ...]
    marked: frozenset[str]
    seed: int
    folder: Path


def write_series(job: SeriesJob) -> int:
    """Write a series; the folder appears when it is whole. Return its number of slices."""
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
