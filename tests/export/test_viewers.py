"""What other programs make of our files: dciodvfy, dcmqi, SimpleITK, highdicom."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ppi_med.data.dicom.index import index_tree
from ppi_med.export.command import MAP, OVERLAY, SEG, main, write_all
from ppi_med.export.dicom import parametric_map, save, segmentation
from ppi_med.export.source import Source, read_source
from tests.data.dicom.files import FLAT, slice_dataset, write_series
from tests.export.test_export import FULL, HEIGHTS, OBLIQUE, arrays, dciodvfy

highdicom = pytest.importorskip("highdicom")

SAGITTAL = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]
TURNED = [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]
DOWNWARD = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0]


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def write_single(folder: Path, orientation: list[float], **changes: Any) -> None:
    """Slices along their normal, written in another order."""
    folder.mkdir()
    normal = np.cross(orientation[:3], orientation[3:])
    for number, place in enumerate((2, 0, 3, 1)):
        position = [float(x) for x in np.array([-10.0, -20.0, 5.0]) + 2.5 * place * normal]
        whole = FULL | {"ImageOrientationPatient": orientation, "ImagePositionPatient": position}
        dataset = slice_dataset(number, 0.0, **(whole | changes))
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def write_enhanced(folder: Path, orientation: list[float], **changes: Any) -> None:
    """One file of many frames, from the last slice to the first."""
    folder.mkdir()
    normal = np.cross(orientation[:3], orientation[3:])
    absent = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    )
    kind = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1", "NumberOfFrames": 4}
    dataset = slice_dataset(1, 0.0, **(FULL | absent | kind | changes))
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=orientation)],
            PixelMeasuresSequence=[item(PixelSpacing=[0.7, 0.5], SliceThickness=5.0)],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = []
    for place in (3, 2, 1, 0):
        position = [float(x) for x in np.array([-10.0, -20.0, 5.0]) + 2.5 * place * normal]
        plane = item(PlanePositionSequence=[item(ImagePositionPatient=position)])
        dataset.PerFrameFunctionalGroupsSequence.append(plane)
    dataset.PixelData = np.arange(192, dtype="<i2").tobytes()
    dataset.save_as(folder / "all.dcm", enforce_file_format=True)


SERIES = {
    "flat": (write_single, FLAT),
    "oblique": (write_single, OBLIQUE),
    "sagittal": (write_single, SAGITTAL),
    "prone": (write_single, TURNED),
    "upside down": (write_single, DOWNWARD),
    "enhanced": (write_enhanced, FLAT),
    "enhanced, oblique": (write_enhanced, OBLIQUE),
    "enhanced, sagittal": (write_enhanced, SAGITTAL),
}


@pytest.fixture(scope="module", params=SERIES)
def exported(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Source, Path, Any, Any]:
    tmp_path = tmp_path_factory.mktemp("exported")
    write, orientation = SERIES[request.param]
    write(tmp_path / "ct", orientation)
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    write_all(tmp_path / "out", source, values, mask)
    return source, tmp_path / "out", values, mask


def by_dcmqi(tool: str, path: Path) -> Any:
    """Convert with one of dcmqi's programs; return SimpleITK's image of what it wrote."""
    pytest.importorskip("dcmqi", reason="no dcmqi (pip install dcmqi)")
    folder = path.parent / tool
    folder.mkdir()
    words = ["--inputDICOM", path, "--outputDirectory", folder, "-t", "nii"]
    program = [sys.executable, "-c", f"import dcmqi; dcmqi.{tool}()", *words]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return read_itk(next(folder.glob("*.nii.gz")))


def read_itk(path: Path) -> Any:
    return pytest.importorskip("SimpleITK", reason="no SimpleITK").ReadImage(str(path))


def places(image: Any, marked: np.ndarray) -> np.ndarray:
    """Where SimpleITK sees marked pixels (slices, rows, columns), in DICOM's mm."""
    found = [
        image.TransformIndexToPhysicalPoint([int(x) for x in place[::-1]])
        for place in np.argwhere(marked)
    ]
    return np.array(found).reshape(-1, 3)


def expected_places(source: Source, marked: np.ndarray) -> np.ndarray:
    # The series' affine takes (column, row, slice).
    affine = source.volume.affine
    return np.argwhere(marked)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]


def assert_same_places(found: np.ndarray, expected: np.ndarray) -> None:
    assert len(found) == len(expected)
    gaps = np.linalg.norm(found[:, None] - expected[None], axis=-1)
    assert gaps.min(axis=1).max() < 1e-3


def pixels(image: Any) -> np.ndarray:
    return pytest.importorskip("SimpleITK").GetArrayFromImage(image)


def test_dcmqi_reads_the_map(exported: tuple[Source, Path, Any, Any]) -> None:
    source, folder, values, _ = exported
    image = by_dcmqi("paramap2itkimage", folder / MAP)
    found = pixels(image)
    assert np.sort(found.ravel()) == pytest.approx(np.sort(values.ravel()), abs=1e-6)
    high = np.sort(values.ravel())[-10]
    expected = expected_places(source, values >= high)
    assert_same_places(places(image, found >= high - 1e-7), expected)


def test_dcmqi_reads_the_segmentation(exported: tuple[Source, Path, Any, Any]) -> None:
    source, folder, _, mask = exported
    image = by_dcmqi("segimage2itkimage", folder / SEG)
    assert_same_places(places(image, pixels(image) > 0), expected_places(source, mask))


def test_simpleitk_reads_the_segmentation(exported: tuple[Source, Path, Any, Any]) -> None:
    source, folder, _, mask = exported
    image = read_itk(folder / SEG)
    assert_same_places(places(image, pixels(image) > 0), expected_places(source, mask))


@pytest.mark.parametrize("name", ["mask.nii.gz", "map.nii.gz"])
def test_simpleitk_reads_the_nifti(exported: tuple[Source, Path, Any, Any], name: str) -> None:
    source, folder, values, mask = exported
    image = read_itk(folder / name)
    marked = mask if name == "mask.nii.gz" else values > 1
    found = pixels(image) > (0 if name == "mask.nii.gz" else 1)
    assert_same_places(places(image, found), expected_places(source, marked))


def test_the_series_of_captures(exported: tuple[Source, Path, Any, Any]) -> None:
    """Without any support of SEG: a colour picture a slice, at the slice's place."""
    itk = pytest.importorskip("SimpleITK", reason="no SimpleITK")
    source, folder, values, mask = exported
    files = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder / OVERLAY))
    image = itk.ReadImage(files)
    shown = pixels(image).astype(int)
    assert shown.shape == (*source.shape, 3)
    yellow = (shown == [255, 220, 0]).all(axis=-1)
    edge = mask.copy()
    edge[1:3, 3, 2] = False
    assert_same_places(places(image, yellow), expected_places(source, edge))
    red = shown[..., 0] > shown[..., 2]
    assert_same_places(places(image, red & ~yellow), expected_places(source, (values > 0) & ~edge))


def test_highdicom_and_dciodvfy(exported: tuple[Source, Path, Any, Any]) -> None:
    source, folder, values, mask = exported
    for path in (folder / SEG, folder / MAP, *(folder / OVERLAY).iterdir()):
        assert dciodvfy(path) == [], path.name
    volume = highdicom.seg.segread(folder / SEG).get_volume()
    marked = np.argwhere(volume.array[..., 0] == 1) @ volume.affine[:3, :3].T
    assert_same_places(marked + volume.affine[:3, 3], expected_places(source, mask))
    volume = highdicom.imread(folder / MAP).get_volume()
    marked = np.argwhere(volume.array > 1) @ volume.affine[:3, :3].T
    assert_same_places(marked + volume.affine[:3, 3], expected_places(source, values > 1))


def test_frames_ascend_and_refer_to_their_slices(exported: tuple[Source, Path, Any, Any]) -> None:
    source, folder, values, mask = exported
    for name in (SEG, MAP):
        dataset = pydicom.dcmread(folder / name)
        frames = dataset.PerFrameFunctionalGroupsSequence
        assert len(frames) == len(source.slices)
        for number, (frame, one) in enumerate(zip(frames, source.slices, strict=True), start=1):
            image = frame.DerivationImageSequence[0].SourceImageSequence[0]
            assert image.ReferencedSOPInstanceUID == one.instance
            assert image.ReferencedSOPClassUID == one.sop_class
            assert image.get("ReferencedFrameNumber") == one.frame
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            assert position == pytest.approx(one.place.position)
            index = frame.FrameContentSequence[0].DimensionIndexValues
            assert (index[-1] if hasattr(index, "__iter__") else index) == number
        files = {one.instance for one in source.slices}
        named = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert [item.ReferencedSOPInstanceUID for item in named] == [*dict.fromkeys(
            one.instance for one in source.slices)]  # fmt: skip
        assert len(files) == len(named)
    anatomy = dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence[0]
    assert anatomy.AnatomicRegionSequence[0].CodeMeaning == "Thorax"
    assert (dataset.pixel_array == values).all()
    assert (pydicom.dcmread(folder / SEG).pixel_array == mask).all()


SIBLINGS: dict[str, tuple[list[float], dict[str, Any]]] = {
    "turned about three axes": ([0.6, 0.48, 0.64, -0.8, 0.36, 0.48], {}),
    "more digits than DICOM holds": ([0.5**0.5, 0.5**0.5, 0.0, -(0.5**0.5), 0.5**0.5, 0.0], {}),
    "anisotropic": (FLAT, {"PixelSpacing": [3.3, 0.123456789]}),
    "names of two scripts": (
        FLAT, {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jürgen=山田^太郎"}),
    "longest texts": (
        FLAT, {"PatientID": "X" * 64, "StudyID": "S" * 16, "AccessionNumber": "9" * 16,
               "StudyDescription": "d" * 64, "PatientName": "N" * 64}),
    "a study in Latin 1": (
        FLAT, {"SpecificCharacterSet": "ISO_IR 100", "StudyDescription": "Thorax, überprüft",
               "IssuerOfPatientID": "Hôpital", "PatientAge": "045Y"}),
    "no longer identified": (
        FLAT, {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "x" * 64}),
    **{f"body part {part}": (FLAT, {"BodyPartExamined": part})
       for part in ("LUNG", "KNEE", "WHOLEBODY", "")},
}  # fmt: skip


@pytest.mark.parametrize("name", SIBLINGS)
@pytest.mark.parametrize("sparse", [False, True])
def test_any_series_in_any_reader(tmp_path: Path, name: str, sparse: bool) -> None:
    orientation, changes = SIBLINGS[name]
    write_single(tmp_path / "ct", orientation, **changes)
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    if sparse:  # one pixel, in the last slice
        mask[:], values[:] = False, 0
        mask[3, 7, 5], values[3, 7, 5] = True, 2
    for path in write_all(tmp_path / "out", source, values, mask):
        assert path.suffix != ".dcm" or dciodvfy(path) == [], path.name
    image = read_itk(tmp_path / "out" / SEG)
    assert_same_places(places(image, pixels(image) > 0), expected_places(source, mask))
    for file, marked in ((SEG, mask), (MAP, values > 1)):
        volume = highdicom.imread(tmp_path / "out" / file).get_volume()
        found = np.argwhere(volume.array > (0 if file == SEG else 1)) @ volume.affine[:3, :3].T
        assert_same_places(found + volume.affine[:3, 3], expected_places(source, marked))
    written = pydicom.dcmread(tmp_path / "out" / SEG)
    assert written.PatientName == changes.get("PatientName", "")


def test_our_own_files_are_no_series(tmp_path: Path) -> None:
    """A later export into that folder reads the CT alone; a map of floats is an image."""
    write_series(tmp_path / "ct", HEIGHTS, **FULL)
    source = read_source(tmp_path / "ct")
    write_all(tmp_path / "ct", source, *arrays(source))
    index = index_tree(tmp_path / "ct", tmp_path / "index", scheduler="serial")
    assert index.series == {"volume": 2, "refused": 2}
    assert index.codes == {"not_an_image": 1, "colour": 1}
    again = read_source(tmp_path / "ct")
    assert (again.volume.values == source.volume.values).all()


@pytest.mark.parametrize("text", ["Weiß", "two\nlines", "a\\b", "tab\t", "\x1b$B"])
def test_labels_that_no_reader_is_given(tmp_path: Path, text: str) -> None:
    write_series(tmp_path / "ct", HEIGHTS, **FULL)
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    for make in (
        lambda: segmentation(mask, source, label=text),
        lambda: segmentation(mask, source, algorithm=text),
        lambda: parametric_map(values, source, method=text),
    ):
        with pytest.raises(ValueError, match="expected printable ASCII without a backslash"):
            make()
    made = segmentation(mask, source, label="L" * 100, algorithm="A" * 100)
    assert dciodvfy(save(made, tmp_path / "mask.dcm")) == []
    assert made.SegmentSequence[0].SegmentLabel == "L" * 64


def scales() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1).normal(size=(4, 8, 6))
    return {
        "small": 0.045 * random,
        "large": 1e8 * random,
        "tiny": 1e-30 * random,
        "smallest": np.full((4, 8, 6), 1e-44),
        "huge": 1e37 * random,
        "largest": np.full((4, 8, 6), np.finfo(np.float32).max),
        "below one": np.full((4, 8, 6), 0.4999),
        "constant": np.ones((4, 8, 6)),
        "zero": np.zeros((4, 8, 6)),
        "negative": -np.abs(random),
        "one value": np.eye(8)[None, :, :6] * [[[0.01]], [[0]], [[0]], [[0]]],
    }


@pytest.mark.parametrize("name", scales())
def test_dciodvfy_finds_no_error_in_maps_of_any_scale(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / "ct", HEIGHTS, **FULL)
    source = read_source(tmp_path / "ct")
    values = scales()[name].astype(np.float32)
    path = save(parametric_map(values, source), tmp_path / "map.dcm")
    assert dciodvfy(path) == []
    found = pydicom.dcmread(path)
    window = found.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert window.VOILUTFunction == "LINEAR_EXACT" and float(window.WindowWidth) > 0
    strongest = np.abs(values).max()
    if 0 < strongest < 1e9:
        assert float(window.WindowWidth) == pytest.approx(2 * float(strongest), rel=1e-6)
    assert (found.pixel_array.reshape(-1, 8, 6) == values[: int(found.NumberOfFrames)]).all()


@pytest.mark.parametrize(
    ("thickness", "expected"),
    [(None, 2.5), ("", 2.5), (0, 2.5), (-1, 2.5), (5.0, 5.0), ("nonsense", 2.5)],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_thickness(tmp_path: Path, thickness: Any, expected: float) -> None:
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        for path in write_series(tmp_path / "ct", HEIGHTS, **(FULL | {"SliceThickness": 7.0})):
            content = pydicom.dcmread(path)
            del content.SliceThickness
            if isinstance(thickness, str):
                content.add_new("SliceThickness", "LO", thickness)
            elif thickness is not None:
                content.SliceThickness = thickness
            content.save_as(path)
    source = read_source(tmp_path / "ct")
    assert source.thickness_mm == pytest.approx(expected)
    values, mask = arrays(source)
    for path in write_all(tmp_path / "out", source, values, mask):
        if path.suffix == ".dcm":
            assert dciodvfy(path) == []


def test_thickness_of_enhanced_and_of_slices_that_differ(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "all", FLAT)
    assert read_source(tmp_path / "all").thickness_mm == 5.0
    paths = write_series(tmp_path / "ct", HEIGHTS, **FULL)
    dataset = pydicom.dcmread(paths[0])
    dataset.SliceThickness = 3.0
    dataset.save_as(paths[0])
    assert read_source(tmp_path / "ct").thickness_mm == 2.5


def test_one_point_makes_a_small_map(tmp_path: Path) -> None:
    """Only the slices around it are stored, each at its place."""
    write_series(tmp_path / "ct", [2.5 * k for k in range(60)], **FULL)
    source = read_source(tmp_path / "ct")
    values = np.zeros(source.shape, np.float32)
    values[30:32, 2, 3] = 0.5
    write_all(tmp_path, source, values, values > 0)
    dataset = pydicom.dcmread(tmp_path / MAP)
    assert dataset.NumberOfFrames == 4
    assert [path.name for path in sorted((tmp_path / OVERLAY).iterdir())] == [
        "slice_31.dcm",
        "slice_32.dcm",
    ]
    image = by_dcmqi("paramap2itkimage", tmp_path / MAP)
    assert_same_places(places(image, pixels(image) > 0), expected_places(source, values > 0))
    # Another export into the same folder leaves no picture of this one.
    write_all(tmp_path, source, None, np.roll(values > 0, 5, axis=0))
    assert sorted(path.name for path in (tmp_path / OVERLAY).iterdir()) == [
        "slice_36.dcm",
        "slice_37.dcm",
    ]


def test_all_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nibabel as nib

    write_series(tmp_path / "ct", HEIGHTS, **FULL)
    source = read_source(tmp_path / "ct")
    values, mask = arrays(source)
    write_all(tmp_path / "out", source, values, mask)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_filename", full)
    with pytest.raises(OSError, match="No space"):
        write_all(tmp_path / "out", source, -values, ~mask)
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert before == after


def test_faults_of_the_system_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "ct", HEIGHTS, **FULL)
    np.save(tmp_path / "mask.npy", np.ones((4, 8, 6), bool))
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        words = ["--series", tmp_path / "ct", "--mask", tmp_path / "mask.npy", "--output", output]
        assert main([str(word) for word in words]) == 2
        assert "is a file, expected a folder" in capsys.readouterr().err
    for error in (PermissionError(13, "Permission denied"), MemoryError()):

        def fail(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("ppi_med.export.command.write_all", fail)
        words[-1] = tmp_path / "out"
        assert main([str(word) for word in words]) == 2
        message = capsys.readouterr().err
        assert len(message.splitlines()) == 1 and len(message) > 30


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    from ppi_med.errors import UsageError

    for number in range(4):
        position = [-10.0, -20.0 + number, 2.5 * number]
        dataset = slice_dataset(number, 0.0, **(FULL | {"ImagePositionPatient": position}))
        (tmp_path / "ct").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / "ct" / f"{number}.dcm", enforce_file_format=True)
    with pytest.raises(UsageError, match="tilt"):
        read_source(tmp_path / "ct")


def test_damaged_slices_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A series without its damaged last slice is shorter, and that is said."""
    paths = write_series(tmp_path / "ct", HEIGHTS, **FULL)
    with zipfile.ZipFile(tmp_path / "ct" / "last.zip", "w") as archive:
        archive.write(paths[1], "last.dcm")
    paths[1].unlink()
    assert read_source(tmp_path / "ct").shape[0] == 4
    content = (tmp_path / "ct" / "last.zip").read_bytes()
    (tmp_path / "ct" / "last.zip").write_bytes(content[:-30])
    assert not caplog.text
    assert read_source(tmp_path / "ct").shape[0] == 3
    assert "last.zip is left out: the zip archive cannot be read" in caplog.text
