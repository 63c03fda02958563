"""A file of many frames: slope and intercept of each frame, its volume, its header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ppi_med.data.dicom.header import Header, read_header
from ppi_med.data.dicom.pixels import read_slice
from ppi_med.data.dicom.tree import DicomFile, Opener
from ppi_med.data.dicom.verdict import Policy, judge
from ppi_med.data.dicom.volume import DicomVolume, read_volume

from .files import FLAT, slice_dataset

Pair = tuple[float, float] | None


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def group(pair: Pair, **values: Any) -> Dataset:
    if pair is not None:
        inside = item(RescaleSlope=pair[0], RescaleIntercept=pair[1], RescaleType="HU")
        values["PixelValueTransformationSequence"] = [inside]
    return item(**values)


def write_frames(path: Path, own: list[Pair], shared: Pair = None, file: Pair = None) -> DicomFile:
    """Frames of the values 0 to 47, 100 more each, from the top down."""
    dataset = slice_dataset(1, 0.0, NumberOfFrames=len(own), ImagePositionPatient=None,
                            ImageOrientationPatient=None, PixelSpacing=None,
                            RescaleSlope=file and file[0],
                            RescaleIntercept=file and file[1])  # fmt: skip
    plane = item(ImageOrientationPatient=FLAT)
    dataset.SharedFunctionalGroupsSequence = [
        group(shared, PlaneOrientationSequence=[plane],
              PixelMeasuresSequence=[item(PixelSpacing=[0.7, 0.5])])
    ]  # fmt: skip
    dataset.PerFrameFunctionalGroupsSequence = [
        group(pair, PlanePositionSequence=[item(ImagePositionPatient=[0.0, 0.0, -2.5 * k])])
        for k, pair in enumerate(own)
    ]
    pixels = np.arange(48, dtype="<i2") + 100 * np.arange(len(own), dtype="<i2")[:, None]
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return DicomFile(path.name, "", path.stat().st_size)


def header_of(folder: Path, file: DicomFile) -> Header:
    with Opener(folder) as opener:
        header = read_header(opener, file)
    assert isinstance(header, Header)
    return header


def volume_of(folder: Path, file: DicomFile, *allow: str) -> DicomVolume:
    policy = Policy(allow=allow)
    return read_volume(folder, [file], [header_of(folder, file)], policy=policy)


NONE: list[Pair] = [None, None, None]
DIFFERENT: list[Pair] = [(1, -1024), (2, -1000), (1, 0)]


@pytest.mark.parametrize(
    ("own", "shared", "file", "first"),
    [
        (NONE, (1, -1024), None, [-1024, -924, -824]),
        (NONE, (1, -1024), (1, 0), [-1024, -924, -824]),
        (NONE, None, (2, -1024), [-1024, -824, -624]),
        (DIFFERENT, (1, 7), (1, 8), [-1024, -800, 200]),
        ([(1, 5), None, (1, 6)], (1, -1024), None, [5, -924, 206]),
    ],
)
def test_the_nearest_slope_and_intercept_count(
    tmp_path: Path, own: list[Pair], shared: Pair, file: Pair, first: list[int]
) -> None:
    volume = volume_of(tmp_path, write_frames(tmp_path / "a.dcm", own, shared, file))
    # The frames run downwards, the volume upwards.
    assert volume.values[:, 0, 0].tolist() == first[::-1]
    assert volume.values.shape == (3, 8, 6)


def lookup() -> list[Dataset]:
    return [item(LUTDescriptor=[4, 0, 16], ModalityLUTType="HU", LUTData=bytes(8))]


def transformation(dataset: Dataset, frame: int = 1) -> Any:
    return dataset.PerFrameFunctionalGroupsSequence[frame].PixelValueTransformationSequence


def frame_lookup(dataset: Dataset) -> None:
    transformation(dataset)[0].ModalityLUTSequence = lookup()


def bare_lookup(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[2].ModalityLUTSequence = lookup()


def shared_lookup(dataset: Dataset) -> None:
    inner = item(ModalityLUTSequence=lookup())
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [inner]


def two_of_one(dataset: Dataset) -> None:
    transformation(dataset).append(item(RescaleSlope=5, RescaleIntercept=7))


def two_shared(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence.append(group((3, 0)))


def halved(dataset: Dataset) -> None:
    del transformation(dataset)[0].RescaleIntercept


def emptied(dataset: Dataset) -> None:
    transformation(dataset)[0].RescaleSlope = None


def density(dataset: Dataset) -> None:
    transformation(dataset, 0)[0].RescaleType = "ED"


def nothing(_: Dataset) -> None:
    pass


REFUSED: dict[str, tuple[Any, list[Pair], str]] = {
    "a frame without": (nothing, [(1, -1024), None, (2, 0)], "no RescaleSlope"),
    "a frame's table": (frame_lookup, DIFFERENT, "a modality lookup table"),
    "a table outside": (bare_lookup, DIFFERENT, "a modality lookup table"),
    "a shared table": (shared_lookup, NONE, "a modality lookup table"),
    "two rescales": (two_of_one, DIFFERENT, "several rescales of one frame"),
    "two shared groups": (two_shared, DIFFERENT, "several rescales of one frame"),
    "slope without intercept": (halved, DIFFERENT, "no RescaleIntercept"),
    "empty slope": (emptied, DIFFERENT, "no RescaleSlope"),
    "another unit": (density, DIFFERENT, "RescaleType is ED, expected HU"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_frames_whose_values_are_not_known(tmp_path: Path, name: str) -> None:
    edit, own, text = REFUSED[name]
    # The file's own pair must not fill what a frame's group leaves out.
    outside = None if own[1] is None and edit is nothing else (1, -1024)
    write_frames(tmp_path / "a.dcm", own, None, outside)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    edit(dataset)
    dataset.save_as(tmp_path / "a.dcm")
    file = DicomFile("a.dcm", "", (tmp_path / "a.dcm").stat().st_size)
    verdict = judge([header_of(tmp_path, file)])
    assert verdict.status == "refused" and [text in r.text for r in verdict.reasons] == [True]
    with pytest.raises(ValueError, match=text):
        volume_of(tmp_path, file)
    with pytest.raises(ValueError, match=text):
        read_slice(tmp_path, file).values()


def test_the_header_tells_what_all_frames_share(tmp_path: Path) -> None:
    header = header_of(tmp_path, write_frames(tmp_path / "a.dcm", NONE, (1, -1024)))
    assert (header.slope, header.intercept, header.warnings) == (1, -1024, ())
    header = header_of(tmp_path, write_frames(tmp_path / "b.dcm", DIFFERENT))
    assert (header.slope, header.intercept) == (None, None)
    assert header.warnings == (
        "RescaleSlope differs between the frames: each keeps its own.",
        "RescaleIntercept differs between the frames: each keeps its own.",
    )


def test_a_single_frame_that_is_allowed_is_a_volume_of_one(tmp_path: Path) -> None:
    file = write_frames(tmp_path / "a.dcm", [(1, -1024)])
    volume = volume_of(tmp_path, file, "single_slice")
    assert volume.values.shape == (1, 8, 6) and volume.values[0, 7, 5] == 47 - 1024


def write_parts(folder: Path, parts: list[list[float]]) -> list[DicomFile]:
    """Files of the frames at the given heights; all pixels of a frame are its height in HU."""
    files = []
    for number, heights in enumerate(parts):
        file = write_frames(folder / f"{number}.dcm", [None] * len(heights), (1, -1024))
        dataset = pydicom.dcmread(folder / file.path)
        dataset.SOPInstanceUID = f"1.2.3.{number + 1}"
        for group_, z in zip(dataset.PerFrameFunctionalGroupsSequence, heights, strict=True):
            group_.PlanePositionSequence[0].ImagePositionPatient = [0.0, 0.0, z]
        plain = np.array(heights, "<i2")[:, None] + 1024
        dataset.PixelData = np.repeat(plain, 48, axis=1).tobytes()
        dataset.save_as(folder / file.path)
        files.append(DicomFile(file.path, "", (folder / file.path).stat().st_size))
    return files


@pytest.mark.parametrize(
    "parts",
    [[[0, 2], [4, 6]], [[6, 4], [2, 0]], [[0, 4], [2, 6]], [[2, 6, 0], [4]], [[6], [0, 2, 4]]],
)
def test_several_files_are_one_volume(tmp_path: Path, parts: list[list[float]]) -> None:
    files = write_parts(tmp_path, parts)
    headers = [header_of(tmp_path, file) for file in files]
    assert judge(headers).status == "volume"
    volume = read_volume(tmp_path, files, headers)
    assert volume.values[:, 0, 0].tolist() == [0, 2, 4, 6]
    assert (volume.values == volume.values[:, :1, :1]).all()
    assert np.allclose(volume.affine[:3, 2], [0, 0, 2]) and set(volume.files) == set(files)


def test_groups_that_do_not_fit_the_frames_are_refused(tmp_path: Path) -> None:
    (file,) = write_parts(tmp_path, [[0, 2, 4]])
    dataset = pydicom.dcmread(tmp_path / file.path)
    del dataset.PerFrameFunctionalGroupsSequence[2]
    dataset.save_as(tmp_path / file.path)
    verdict = judge([header_of(tmp_path, file)])
    assert "3 frames, functional groups of 2" in verdict.reasons[0].text


@pytest.mark.data
def test_the_shared_case_of_two_files(data_root: Path) -> None:
    tree = data_root.parent / "cases" / "ct" / "several_multiframe_files" / "input"
    if not tree.is_dir():
        pytest.skip(f"no {tree}")
    paths = sorted(tree.glob("*.dcm"))
    files = [DicomFile(path.name, "", path.stat().st_size) for path in paths]
    volume = read_volume(tree, files, [header_of(tree, file) for file in files])
    stored = np.concatenate([pydicom.dcmread(path).pixel_array for path in paths])
    assert (volume.values == stored.astype(int) - 1024).all() and len(stored) == 4
