"""Arrays from outside are what their option names, or refused by name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.errors import UsageError
from ppi_med.export.arrays import as_map, as_mask, read_map, read_mask
from ppi_med.export.command import main
from ppi_med.export.dicom import save, segmentation
from ppi_med.export.source import Source, read_source
from tests.data.dicom.files import write_series
from tests.export.test_export import FULL, HEIGHTS

pytest.importorskip("highdicom")
SHAPE = (4, 8, 6)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, HEIGHTS, **FULL)
    return read_source(folder)


def marked(dtype: Any, value: float = 1) -> np.ndarray:
    array = np.zeros(SHAPE, dtype)
    array[1, 2, 3] = value
    return array


MASKS = {
    "bool": marked(bool),
    "uint8": marked(np.uint8),
    "int64": marked(np.int64),
    "float of 0 and 1": marked(np.float64),
    "half float": marked(np.float16),
    "big-endian": marked(">i4"),
    "Fortran order": np.asfortranarray(marked(bool)),
    "empty": np.zeros(SHAPE, np.float32),
}
NO_MASKS = {
    "probability": (marked(np.float32, 0.3), "float32 with values from 0 to 0.3"),
    "labels": (marked(np.int16, 2), "int16 with values from 0 to 2"),
    "grey levels": (marked(np.uint8, 255), "uint8 with values from 0 to 255"),
    "negative": (marked(np.int8, -1), "values from -1 to 0"),
    "NaN": (marked(np.float32, np.nan), "and NaN or infinity"),
    "nothing but NaN": (np.full(SHAPE, np.nan), "with no number"),
    "complex": (marked(np.complex64), "the mask is complex64"),
    "text": (np.full(SHAPE, "1"), "the mask is str"),
    "dates": (np.zeros(SHAPE, "M8[s]"), "the mask is datetime64"),
    "records": (np.zeros(SHAPE, [("a", "i4")]), "the mask is void"),
    "one slice": (np.zeros(SHAPE[1:], bool), "expected that of the series"),
    "a channel more": (np.zeros((1, *SHAPE), bool), "expected that of the series"),
    "other axes": (np.zeros(SHAPE[::-1], bool), "expected that of the series"),
    "no slice": (np.zeros((0, 8, 6), bool), "expected that of the series"),
    "a number": (np.array(True), "expected that of the series"),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(source: Source, tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "mask.npy", MASKS[name])
    np.savez_compressed(tmp_path / "mask.npz", anything=MASKS[name])
    for mask in (
        as_mask(MASKS[name], source),
        read_mask(tmp_path / "mask.npy", source),
        read_mask(tmp_path / "mask.npz", source),
    ):
        assert mask.dtype == bool and mask.flags.c_contiguous
        assert np.argwhere(mask).tolist() == ([] if name == "empty" else [[1, 2, 3]])


@pytest.mark.parametrize("name", NO_MASKS)
def test_what_is_no_mask(source: Source, tmp_path: Path, name: str) -> None:
    """The file is refused as the array is, and the file's name is said."""
    array, text = NO_MASKS[name]
    with pytest.raises(ValueError, match=text):
        as_mask(array, source)
    with pytest.raises(ValueError, match=text):
        save(segmentation(array, source), tmp_path / "mask.dcm")
    np.save(tmp_path / "mask.npy", array)
    with pytest.raises(UsageError, match=f"mask.npy: .*{text}"):
        read_mask(tmp_path / "mask.npy", source)
    assert not (tmp_path / "mask.dcm").exists()


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, ">f8", np.float16, np.float32])
def test_maps(source: Source, tmp_path: Path, dtype: Any) -> None:
    array = np.asfortranarray(marked(dtype, 7))
    np.save(tmp_path / "map.npy", array)
    for found in (as_map(array, source), read_map(tmp_path / "map.npy", source)):
        assert found.dtype == np.float32 and found.flags.c_contiguous
        assert (found == array.astype(float)).all()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (marked(bool), "the map is bool"),
        (marked(np.float32, np.nan), "1 values that are not 32-bit numbers"),
        (marked(np.float32, np.inf), "1 values"),
        (marked(np.float64, 1e39), "too large"),
        (marked(np.complex128), "complex128"),
    ],
)
def test_what_is_no_map(source: Source, array: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        as_map(array, source)


def damaged_files(folder: Path) -> dict[str, tuple[Path, str]]:
    np.save(folder / "whole.npy", MASKS["bool"])
    whole = (folder / "whole.npy").read_bytes()
    header = np.lib.format.magic(1, 0)
    claim = b"{'descr': '|b1', 'fortran_order': False, 'shape': (4000000, 800000, 600000), }\n"
    contents = {
        "cut.npy": (whole[:-5], "the file ends after 187 of 192 bytes"),
        "more.npy": (whole + b"1", "more in the file"),
        "nothing.npy": (b"", "not a .npy or .npz"),
        "text.npy": (b"1,2,3\n", "not a .npy or .npz"),
        "huge.npy": (header + len(claim).to_bytes(2, "little") + claim, "expected that of"),
        "broken.npz": (b"PK\x03\x04" + b"\0" * 40, "."),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    np.save(folder / "objects.npy", marked(object), allow_pickle=True)
    contents["objects.npy"] = (b"", "the mask is object")
    (folder / "pickle.npy").write_bytes(pickle.dumps(MASKS["bool"]))
    contents["pickle.npy"] = (b"", "not a .npy or .npz")
    np.savez(folder / "two.npz", mask=MASKS["bool"], other=MASKS["bool"])
    contents["two.npz"] = (b"", r"holds 2 arrays \(mask, other\)")
    np.savez(folder / "none.npz")
    contents["none.npz"] = (b"", ".")
    return {name: (folder / name, text) for name, (_, text) in contents.items()}


def test_damaged_files(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "ct", HEIGHTS, **FULL)
    for name, (path, text) in damaged_files(tmp_path).items():
        with pytest.raises(UsageError, match=f"{name}: .*{text}"):
            read_mask(path, source)
        words = ["--series", tmp_path / "ct", "--mask", path, "--output", tmp_path / "out"]
        assert main([str(word) for word in words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_file_larger_than_memory_is_not_read(source: Source, tmp_path: Path) -> None:
    """A sparse file of a terabyte: its shape is refused before a value is read."""
    huge = np.lib.format.open_memmap(
        tmp_path / "huge.npy", mode="w+", dtype=np.float64, shape=(2**37,)
    )
    del huge
    with pytest.raises(UsageError, match="expected that of the series"):
        read_map(tmp_path / "huge.npy", source)
