from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from torch import Tensor, nn

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.export.arrays import write_nifti
from ppi_med.export.command import main, write_all
from ppi_med.export.dicom import parametric_map, save, segmentation
from ppi_med.export.series import Point, explain_series, read_points
from ppi_med.export.source import MAY_BE_EMPTY, Source, read_source
from ppi_med.saliency import WBP
from ppi_med.segmentation.grid import NetworkGrid
from ppi_med.segmentation.masking import MaskRule
from tests.data.dicom.files import write_series

highdicom = pytest.importorskip("highdicom")

OBLIQUE = [0.8, 0.6, 0.0, -0.6, 0.8, 0.0]
# What a CT slice has to tell so that what refers to it is complete.
FULL = {
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.3",
    "StudyDate": "20000101",
    "StudyTime": "120000",
    "StudyID": "1",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "PatientName": "",
    "BodyPartExamined": "CHEST",
    "PositionReferenceIndicator": "",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "Laterality": None,
}
HEIGHTS = [-7.5, -10.0, -2.5, -5.0]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    write_series(tmp_path / "ct", HEIGHTS, **FULL)
    return read_source(tmp_path / "ct")


def arrays(source: Source) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    mask = np.zeros(source.shape, bool)
    mask[1:3, 2:5, 1:4] = True
    mask[2, 5, 4] = True
    return values, mask


def points_of(affine: np.ndarray, shape: tuple[int, ...], marked: np.ndarray) -> set[tuple]:
    """Return the marked pixels by their place in mm, whatever the array's order of axes."""
    places = np.argwhere(marked) @ affine[:3, :3].T + affine[:3, 3]
    return {tuple(np.round(place, 3)) for place in places}


def source_points(source: Source, mask: np.ndarray) -> set[tuple]:
    # The series' affine takes (column, row, slice).
    return points_of(source.volume.affine, mask.shape, mask.transpose(2, 1, 0))


def volume_of(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    volume = dataset.get_volume()
    values = volume.array[..., 0] if volume.array.ndim == 4 else volume.array
    return values, volume.affine


@pytest.mark.parametrize("orientation", [[1.0, 0, 0, 0, 1.0, 0], OBLIQUE])
def test_the_segmentation_lies_on_the_series(tmp_path: Path, orientation: list[float]) -> None:
    write_series(tmp_path / "ct", HEIGHTS, **FULL, ImageOrientationPatient=orientation)
    source = read_source(tmp_path / "ct")
    _, mask = arrays(source)
    path = save(segmentation(mask, source), tmp_path / "mask.dcm")
    opened = highdicom.seg.segread(path)
    values, affine = volume_of(opened)
    assert values.shape == source.shape
    assert points_of(affine, values.shape, values == 1) == source_points(source, mask)
    everything = np.ones(source.shape, bool)
    assert points_of(affine, values.shape, np.ones_like(values)) == source_points(
        source, everything
    )


def test_the_segmentation_refers_to_the_slices(tmp_path: Path, source: Source) -> None:
    _, mask = arrays(source)
    dataset = pydicom.dcmread(save(segmentation(mask, source), tmp_path / "mask.dcm"))
    series = dataset.ReferencedSeriesSequence[0]
    named = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert named == {one.instance for one in source.slices}
    assert dataset.PatientID == "SECRET-7"
    assert dataset.FrameOfReferenceUID == source.frame_of_reference
    assert dataset.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    # Each frame refers to the slice at its own place.
    places = {one.instance: list(one.place.position or ()) for one in source.slices}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        assert places[image.ReferencedSOPInstanceUID] == position


def test_the_map_keeps_its_values_and_place(tmp_path: Path, source: Source) -> None:
    values, _ = arrays(source)
    path = save(parametric_map(values, source), tmp_path / "map.dcm")
    opened = highdicom.imread(path)
    found, affine = volume_of(opened)
    assert found.shape == source.shape
    marked = values == values.max()
    assert points_of(affine, found.shape, np.isclose(found, values.max())) == source_points(
        source, marked
    )
    assert np.sort(found.ravel()) == pytest.approx(np.sort(values.ravel()), rel=1e-6)
    mapping = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0]
    assert mapping.RealWorldValueMappingSequence[0].RealWorldValueSlope == 1


def test_an_empty_mask_and_a_zero_map_are_written(tmp_path: Path, source: Source) -> None:
    empty = np.zeros(source.shape, bool)
    files = write_all(tmp_path, source, np.zeros(source.shape, np.float32), empty)
    assert len(files) == 4
    assert volume_of(highdicom.seg.segread(tmp_path / "mask.seg.dcm"))[0].sum() == 0


def test_a_series_without_what_may_be_empty(tmp_path: Path) -> None:
    lacking = {keyword: None for keyword in MAY_BE_EMPTY if keyword != "PatientID"}
    write_series(tmp_path / "ct", HEIGHTS, **(FULL | lacking))
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    for path in (
        save(segmentation(mask, source), tmp_path / "mask.dcm"),
        save(parametric_map(values, source), tmp_path / "map.dcm"),
    ):
        dataset = pydicom.dcmread(path)
        assert all(dataset[keyword].is_empty for keyword in lacking)
        assert dataset.PatientID == "SECRET-7"


def test_nifti_lies_on_the_series(tmp_path: Path, source: Source) -> None:
    values, mask = arrays(source)
    image = nib.load(write_nifti(tmp_path / "mask.nii.gz", mask, source))
    data = np.asarray(image.dataobj)
    flip = np.diag([-1, -1, 1, 1])
    assert points_of(flip @ image.affine, data.shape, data == 1) == source_points(source, mask)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    back = nib.load(write_nifti(tmp_path / "map.nii.gz", values, source))
    assert (np.asarray(back.dataobj).transpose(2, 1, 0) == values).all()


def dciodvfy(path: Path) -> list[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy (Debian's dicom3tools)")
    # It prints names as they are in the file, in any character set.
    result = subprocess.run(
        ["dciodvfy", path], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (result.stdout + result.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("body", ["CHEST", None])
def test_dciodvfy_finds_no_error(tmp_path: Path, body: str | None) -> None:
    write_series(tmp_path / "ct", HEIGHTS, **(FULL | {"BodyPartExamined": body}))
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    assert dciodvfy(save(segmentation(mask, source), tmp_path / "mask.dcm")) == []
    assert dciodvfy(save(parametric_map(values, source), tmp_path / "map.dcm")) == []


@pytest.mark.data
def test_a_real_series(data_root: Path, tmp_path: Path) -> None:
    source = read_source(data_root / "lidc_dicom" / "LIDC-IDRI-0003")
    assert source.shape == (33, 512, 512)
    mask = np.zeros(source.shape, bool)
    mask[10:13, 200:220, 100:130] = True
    files = write_all(tmp_path, source, mask.astype(np.float32), mask)
    for path in files:
        if path.suffix == ".dcm":
            assert dciodvfy(path) == []
    values, affine = volume_of(highdicom.seg.segread(tmp_path / "mask.seg.dcm"))
    assert points_of(affine, values.shape, values == 1) == source_points(source, mask)


class Bright(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1).sum(1, keepdim=True)


@pytest.fixture
def wide(tmp_path: Path) -> Source:
    """Slices of 40 x 40 at 1 mm with a bright square in slice 1."""
    write_series(tmp_path / "wide", HEIGHTS, **FULL, PixelSpacing=[1.0, 1.0])
    for path in (tmp_path / "wide").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 40
        pixels = np.full((40, 40), 174, "<i2")
        if dataset.ImagePositionPatient[2] == -7.5:
            pixels[10:16, 30:36] = 1100
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(path)
    return read_source(tmp_path / "wide")


@pytest.mark.parametrize("row", [13, 5])
def test_a_network_marks_what_it_sees(wide: Source, row: int) -> None:
    answer = explain_series(
        Bright(), WBP(), wide, [Point(1, row, 32)], NetworkGrid(20, 20.0), MaskRule()
    )
    wanted = wide.volume.values[1] > 0
    assert wanted.sum() == 36
    assert 2 * (answer.mask[1] & wanted).sum() / (answer.mask[1].sum() + 36) > 0.8
    assert not answer.mask[[0, 2, 3]].any()
    assert not answer.map[[0, 2, 3]].any()
    assert answer.logits.shape == (1,)


def test_points_from_a_table(wide: Source, tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text("z_mm,row,column\n-7.4,3,4\n-2.5,5,6\n")
    assert read_points(table, wide) == [Point(1, 3, 4), Point(3, 5, 6)]
    table.write_text("slice,row,column\n2,3,4\n")
    assert read_points(table, wide) == [Point(2, 3, 4)]
    for text, message in (
        ("slice,row\n2,3\n", "line 2: expected whole numbers"),
        ("z_mm,row,column\n50,3,4\n", "no slice at z=50 mm"),
        ("slice,row,column\n9,3,4\n", "outside the series"),
    ):
        table.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_points(table, wide)


def test_what_is_refused(tmp_path: Path, source: Source) -> None:
    values, mask = arrays(source)
    with pytest.raises(ValueError, match="expected that of the series"):
        save(segmentation(mask[:2], source), tmp_path / "a")
    with pytest.raises(ValueError, match="expected bool"):
        save(segmentation(values, source), tmp_path / "a")
    with pytest.raises(ValueError, match="not 32-bit numbers"):
        save(parametric_map(values * np.nan, source), tmp_path / "a")
    with pytest.raises(MissingFileError):
        read_source(tmp_path / "none")
    write_series(tmp_path / "gap", [0.0, 2.5, 7.5], **FULL)
    with pytest.raises(UsageError, match="gap"):
        read_source(tmp_path / "gap")
    write_series(tmp_path / "ct" / "more", [0.0, 1.0], **FULL, SeriesInstanceUID="1.2.3")
    with pytest.raises(UsageError, match="holds 2 series"):
        read_source(tmp_path / "ct")
    assert read_source(tmp_path / "ct", "1.2.3").shape[0] == 2
    with pytest.raises(UsageError, match="no series 9"):
        read_source(tmp_path / "ct", "9")


def test_the_command(tmp_path: Path, source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    values, mask = arrays(source)
    np.save(tmp_path / "map.npy", values)
    np.save(tmp_path / "mask.npy", mask)
    series = ["--series", str(tmp_path / "ct"), "--output", str(tmp_path / "out")]
    given = ["--map", str(tmp_path / "map.npy"), "--mask", str(tmp_path / "mask.npy")]
    assert main([*series, *given]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"mask.seg.dcm", "map.pm.dcm", "mask.nii.gz", "map.nii.gz", "overlay"}
    assert main(series) == 2
    assert "either --points" in capsys.readouterr().err
    np.save(tmp_path / "map.npy", values[:1])
    assert main([*series, *given]) == 2
    assert "expected that of the series" in capsys.readouterr().err


def test_the_command_asks_a_network(tmp_path: Path, wide: Source) -> None:
    from ppi_med.networks.patch_classifier import patch_classifier

    bundle = Path(__file__).resolve().parents[2] / "bundles" / "lidc_ppi"
    torch.manual_seed(0)
    torch.save(patch_classifier("small_cnn", 40).state_dict(), tmp_path / "model.pt")
    (tmp_path / "points.csv").write_text("z_mm,row,column\n-7.5,13,32\n")
    rules = tmp_path / "rules.json"
    rules.write_text(
        '[{"method": "wbp", "crops": "centred", "options": {"sign": "absolute", "threshold": "std",'
        ' "level": 1.0}}]'
    )
    options = {
        "--series": tmp_path / "wide",
        "--points": tmp_path / "points.csv",
        "--bundle": bundle,
        "--checkpoint": tmp_path / "model.pt",
        "--rules": rules,
        "--output": tmp_path / "out",
    }
    assert main([str(part) for pair in options.items() for part in pair]) == 0
    assert volume_of(highdicom.seg.segread(tmp_path / "out" / "mask.seg.dcm"))[0].sum() > 0
    options["--rules"] = tmp_path / "points.csv"
    assert main([str(part) for pair in options.items() for part in pair]) == 2


@pytest.mark.parametrize("method", ["all", "wbp,gradcam", "xyz"])
def test_a_map_is_of_one_method(
    tmp_path: Path, source: Source, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    (tmp_path / "points.csv").write_text("z_mm,row,column\n-7.5,4,3\n")
    words = ["--series", tmp_path / "ct", "--points", tmp_path / "points.csv",
             "--output", tmp_path / "out", "--method", method]  # fmt: skip
    assert main([str(word) for word in words]) == 2
    assert f"method is {method!r}, expected one of wbp, " in capsys.readouterr().err
