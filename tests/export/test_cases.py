"""The shared cases of CT exports: what failed once gives what is expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from ppi_med.export.command import MAP, SEG, main
from tests.export.test_export import dciodvfy
from tests.export.test_viewers import by_dcmqi, pixels

pytest.importorskip("highdicom")
pytestmark = pytest.mark.data


@pytest.fixture
def cases(data_root: Path) -> Path:
    folder = data_root.parent / "cases" / "ct"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def export(folder: Path, output: Path, **arrays: Path) -> int:
    words = ["--series", folder, "--output", output]
    for name, path in arrays.items():
        words += [f"--{name}", path]
    return main([str(word) for word in words])


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    array = np.zeros((3, 24, 32), bool)
    array[1, 2, 3] = True
    np.save(tmp_path / "mask.npy", array)
    return tmp_path / "mask.npy"


@pytest.mark.parametrize("name", ["probability.npy", "nan.npy"])
def test_a_mask_that_is_none(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = cases / "mask_not_bool"
    assert export(folder / "input", tmp_path / "out", mask=folder / name) == 2
    message = capsys.readouterr().err
    assert name in message and len(message.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_archive_of_one_array(cases: Path, tmp_path: Path) -> None:
    folder = cases / "mask_not_bool"
    assert export(folder / "input", tmp_path, mask=folder / "mask.npz") == 0
    with np.load(folder / "mask.npz") as file:
        assert (pydicom.dcmread(tmp_path / SEG).pixel_array == file["mask"]).all()


def test_mixed_patients(
    cases: Path, tmp_path: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(cases / "patients_mixed" / "input", tmp_path / "out", mask=mask) == 2
    message = capsys.readouterr().err
    assert message.count("P-") == 3 and "P0" not in message and "Person" not in message
    assert not (tmp_path / "out").exists()


def test_a_character_set_whose_first_value_is_empty(
    cases: Path, tmp_path: Path, mask: Path
) -> None:
    folder = cases / "charset_empty_first_value" / "input"
    assert export(folder, tmp_path / "out", mask=mask) == 0
    name = pydicom.dcmread(next(folder.iterdir())).PatientName
    assert pydicom.dcmread(tmp_path / "out" / SEG).PatientName == name
    assert dciodvfy(tmp_path / "out" / SEG) == []


def test_small_maps_and_other_readers(cases: Path, tmp_path: Path, mask: Path) -> None:
    for name in ("small_map_dciodvfy", "map_in_dcmqi"):
        values = np.load(cases / name / "map.npy")
        output = tmp_path / name
        assert export(cases / name / "input", output, map=cases / name / "map.npy", mask=mask) == 0
        assert dciodvfy(output / MAP) == []
        image = by_dcmqi("paramap2itkimage", output / MAP)
        found = pixels(image)
        assert (found == values).all() and image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
        found = pixels(by_dcmqi("segimage2itkimage", output / SEG))
        assert (found == np.load(mask)).all()


def test_a_thickness_that_is_absent(cases: Path, tmp_path: Path, mask: Path) -> None:
    assert export(cases / "slice_thickness" / "absent", tmp_path / "out", mask=mask) == 0
    groups = pydicom.dcmread(tmp_path / "out" / SEG).SharedFunctionalGroupsSequence[0]
    assert groups.PixelMeasuresSequence[0].SliceThickness == 2
