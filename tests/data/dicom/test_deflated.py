"""Deflated files are measured before pydicom inflates them."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

import ppi_med.data.dicom.pixels as deflated
from ppi_med.data.dicom.header import Header, read_header
from ppi_med.data.dicom.pixels import PixelError, read_pixels
from ppi_med.data.dicom.tree import DicomFile, FileProblem, Opener

from .files import slice_dataset, write_slice


def write_deflated(path: Path, private: bytes = b"") -> DicomFile:
    dataset = slice_dataset(1, 0.0)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if private:
        # A long element before the transfer syntax.
        dataset.file_meta.FileMetaInformationVersion = private
    dataset.save_as(path, enforce_file_format=True)
    return DicomFile(path.name, "", path.stat().st_size)


@pytest.mark.parametrize("private", [b"", b"\0" * 5000])
def test_what_inflates_to_too_much_is_not_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bytes
) -> None:
    file = write_deflated(tmp_path / "a.dcm", private)
    with Opener(tmp_path) as opener:
        header = read_header(opener, file)
        assert isinstance(header, Header) and not header.pixel_problem
        assert read_pixels(tmp_path, file).shape == (8, 6)
        monkeypatch.setattr(deflated, "MAX_INFLATED_BYTES", 100)
        monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("inflated"))
        problem = read_header(opener, file)
    assert isinstance(problem, FileProblem) and problem.kind == "unreadable"
    assert problem.reason == "more than 100 bytes inflated: refused."
    with pytest.raises(PixelError, match="more than 100 bytes inflated"):
        read_pixels(tmp_path, file)


def test_others_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "MAX_INFLATED_BYTES", 0)
    path = write_slice(tmp_path / "a.dcm", 1, 0.0)
    with path.open("rb") as stream:
        deflated.check_inflated_size(stream)
        assert stream.tell() == 0


def test_damage_is_left_to_the_reader(tmp_path: Path) -> None:
    file = write_deflated(tmp_path / "a.dcm")
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[:-200] + b"\xff" * 200)
    with Opener(tmp_path) as opener:
        problem = read_header(opener, file)
    assert isinstance(problem, FileProblem) and problem.kind == "damaged"
