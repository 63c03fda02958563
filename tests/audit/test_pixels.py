"""What a case's pixels stand for is asked of the same rule as everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppi_med.audit.pixels import load
from ppi_med.audit.sources import Case
from ppi_med.errors import UsageError
from tests.data.dicom.files import write_slice

STORED = np.arange(48).reshape(8, 6)
DX: dict[str, Any] = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
    "Modality": "DX",
    "RescaleSlope": None,
    "RescaleIntercept": None,
    "PixelRepresentation": 0,
}


def case(path: Path) -> Case:
    return Case("a", str(path), 0, "p")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, STORED - 1024),
        ({"PixelPaddingValue": 3}, np.where(STORED == 3, -2000, STORED - 1024)),
        ({"RescaleSlope": -2}, -2 * STORED - 1024),
        ({"PhotometricInterpretation": "MONOCHROME1"}, STORED - 1024),  # HU stay HU
        (DX, STORED),
        (DX | {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11},
         4095 - STORED),
    ],
)  # fmt: skip
def test_values_of_dicom(tmp_path: Path, changes: dict[str, Any], expected: Any) -> None:
    found = load(case(write_slice(tmp_path / "a.dcm", 0, 0.0, **changes)))
    assert np.array_equal(found.pixels[0, :, :, 0], expected)


def test_values_that_are_no_hounsfield_units(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", 0, 0.0, RescaleType="US")
    with pytest.raises(UsageError, match="RescaleType is US, expected HU"):
        load(case(path))


def test_a_header_that_names_somebody(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", 0, 0.0, Manufacturer="Doe^Jane")
    header = load(case(path)).header
    assert str(header["maker"]).startswith("X-") and header["modality"] == "CT"


def test_a_picture_of_sixteen_bits_keeps_its_values(tmp_path: Path) -> None:
    values = (STORED * 1000).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(load(case(tmp_path / "a.png")).pixels[0, :, :, 0], values)
