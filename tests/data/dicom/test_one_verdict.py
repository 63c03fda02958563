"""One slice of four is at fault: index, volume, patches and export say so, and nothing is written.

What the index calls a volume is read with all of its slices.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from ppi_med.data.dicom.index import index_tree
from ppi_med.data.dicom.pixels import read_slice
from ppi_med.data.dicom.tree import DicomFile
from ppi_med.data.lidc.cut import slice_hu
from ppi_med.errors import UsageError
from ppi_med.export.command import main
from ppi_med.export.source import read_source

from .files import write_series

HEIGHTS = [-7.5, -10.0, -2.5, -5.0]
FRAME = {"FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.3"}
JPEG2000, BIG = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.2"


def relabelled(path: Path, new: str) -> None:
    """Replace the transfer syntax, of any length, byte by byte: no library writes a wrong one."""
    content = path.read_bytes()
    old = str(pydicom.dcmread(path).file_meta.TransferSyntaxUID)
    was, now = (text.encode() + b"\0" * (len(text) % 2) for text in (old, new))
    place = content.index(b"UI" + len(was).to_bytes(2, "little") + was, 140)
    group = int.from_bytes(content[140:144], "little") + len(now) - len(was)
    path.write_bytes(
        content[:140] + group.to_bytes(4, "little") + content[144:place]
        + b"UI" + len(now).to_bytes(2, "little") + now + content[place + 4 + len(was) :]
    )  # fmt: skip


def changed(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(dataset, name, value)
        dataset.save_as(path)

    return change


def packed(syntax: Any, label: Any = None, stream: bytes = b"") -> Callable[[Path], None]:
    def change(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        if stream:
            dataset.PixelData = encapsulate([stream])
        dataset.save_as(path)
        if label:
            relabelled(path, label)

    return change


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


FAULTS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "truncated": ("pixels", "66 of 96 bytes", cut_off),
    "rows": ("mixed_size", "2 sizes of slices", changed(Rows=6, PixelData=bytes(72))),
    "turned": ("mixed_size", "2 sizes of slices", changed(Rows=6, Columns=8)),
    "modality": ("not_hounsfield", "slices of several modalities", changed(Modality="MR")),
    "private": ("pixels", "1.2.3.4.5 not supported", lambda p: relabelled(p, "1.2.3.4.5")),
    "said to be compressed": (
        "pixels", "in the form of its transfer", lambda p: relabelled(p, JPEG2000)),
    # Read as they are, its bytes would be pixels.
    "said to be plain": (
        "pixels", "in the form of its transfer", packed(RLELossless, ExplicitVRLittleEndian)),
    "another compression": (
        "pixels", "another compression", packed(JPEGLSLossless, RLELossless)),
    "no stream": ("pixels", "another compression", packed(RLELossless, None, b"\xff" * 64)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_one_slice(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, change = FAULTS[name]
    path = write_series(tmp_path / "ct", HEIGHTS, **FRAME)[1]
    change(path)
    index = index_tree(tmp_path / "ct", tmp_path / "index", scheduler="serial")
    assert index.series == {"refused": 1} and index.codes == {code: 1}
    assert text in index.table.read_text()
    with pytest.raises(UsageError, match=text):
        read_source(tmp_path / "ct")
    np.save(tmp_path / "mask.npy", np.ones((4, 8, 6), bool))
    words = ["--series", tmp_path / "ct", "--mask", tmp_path / "mask.npy"]
    assert main([str(word) for word in [*words, "--output", tmp_path / "out"]]) == 2
    assert text in capsys.readouterr().err and not (tmp_path / "out").exists()
    if code in ("pixels", "not_hounsfield") and name != "modality":
        with pytest.raises(ValueError, match=text):
            read_slice(path.parent, DicomFile(path.name, "", path.stat().st_size))


@pytest.mark.parametrize(
    "change", [changed(PhotometricInterpretation="MONOCHROME1"), packed(RLELossless)]
)
def test_what_is_no_fault(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """The photometric interpretation says how to show a slice, not what its values are."""
    plain = write_series(tmp_path / "ct", HEIGHTS, **FRAME)[1]
    expected = read_source(tmp_path / "ct").volume.values
    change(plain)
    index = index_tree(tmp_path / "ct", tmp_path / "index", scheduler="serial")
    assert index.series == {"volume": 1}
    assert (read_source(tmp_path / "ct").volume.values == expected).all()


def test_no_frame_of_reference(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", HEIGHTS)
    table = index_tree(tmp_path / "ct", tmp_path / "index", scheduler="serial").table
    text = "its series lacks FrameOfReferenceUID"
    assert f"nothing that refers to it can be exported: {text}" in table.read_text()
    with pytest.raises(UsageError, match=text):
        read_source(tmp_path / "ct")


def test_a_slice_that_cannot_be_parsed_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first bytes say that it is DICOM: it is damaged, not some other file of the folder."""
    path = write_series(tmp_path / "ct", HEIGHTS, **FRAME)[1]
    relabelled(path, BIG)
    index = index_tree(tmp_path / "ct", tmp_path / "index", scheduler="serial")
    assert index.problems == {"damaged": 1} and index.exit_code == 1
    assert read_source(tmp_path / "ct").shape[0] == 3
    assert f"{path.name} is left out: the header says what it is" in caplog.text


def test_no_patch_of_a_slice_that_is_no_ct(tmp_path: Path) -> None:
    other = {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}
    path = write_series(tmp_path / "t", [0.0], **other)[0]
    with pytest.raises(ValueError, match="the slice is no CT"):
        slice_hu(read_slice(path.parent, DicomFile(path.name, "", path.stat().st_size)))
