"""Small DICOM files for the tests, written with pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

FLAT = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def slice_dataset(number: int, z: float, **changes: Any) -> Dataset:
    """A CT slice of 8 x 6 pixels at height `z`; `changes` are elements by keyword."""
    dataset = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=["test", str(number), str(changes)]),
        "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.1",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "PatientID": "SECRET-7",
        "PatientName": "Secret^Person",
        "Modality": "CT",
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "One",
        "InstanceNumber": number,
        "ImagePositionPatient": [-10.0, -20.0, z],
        "ImageOrientationPatient": FLAT,
        "PixelSpacing": [0.7, 0.5],
        "SliceThickness": 2.5,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "Rows": 8,
        "Columns": 6,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    pixels = np.arange(48, dtype="<i2").reshape(8, 6) + 100 * number
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_slice(path: Path, number: int, z: float, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    slice_dataset(number, z, **changes).save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, heights: list[float], **changes: Any) -> list[Path]:
    """Files whose names run against the heights."""
    return [
        write_slice(folder / f"{len(heights) - i:03}.dcm", i + 1, z, **changes)
        for i, z in enumerate(heights)
    ]
