"""What holds for every reader: pixels in the right order, unknown left unknown, clear errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import READERS, read_all, read_oct, reader_for
from ppi_med.data.oct.volume import OctReadError
from tests.data.oct import writers

PIXELS = writers.volume((5, 12, 9))
WIDE = writers.volume((40, 12, 9), seed=1)
DEEP = writers.volume((5, 12, 9), seed=2, high=4096)

# name -> (writes a file and returns its path, the pixels that a reader must give)
FORMATS: dict[str, tuple[Callable[[Path], Path], Any]] = {
    "mat": (lambda d: writers.write_mat(d / "a.mat", PIXELS, Age=[[70]]), PIXELS),
    "mat-compressed": (lambda d: writers.write_mat(d / "a.mat", DEEP, do_compression=True), DEEP),
    "mat-7.3": (lambda d: writers.write_mat73(d / "a.mat", PIXELS), PIXELS),
    "mat-other-name": (lambda d: writers.write_mat(d / "a.mat", PIXELS, "octt"), PIXELS),
    "mat-as-double": (lambda d: writers.write_mat(d / "a.mat", PIXELS.astype(float)), PIXELS),
    "oct": (lambda d: writers.write_bioptigen(d / "a.OCT", DEEP), DEEP),
    "oct-doppler": (lambda d: writers.write_bioptigen(d / "a.OCT", DEEP, doppler=True), DEEP),
    "img": (lambda d: writers.write_cirrus(d / "P1_Macular Cube 9x5_x_cube_z.img", PIXELS), PIXELS),
    "fda": (lambda d: writers.write_fda(d / "a.fda", WIDE), WIDE),
    "fda-raw": (lambda d: writers.write_fda(d / "a.fda", DEEP, raw=True), DEEP),
    "dcm": (lambda d: writers.write_dicom(d / "a.dcm", PIXELS), PIXELS),
    "dcm-16-bit": (lambda d: writers.write_dicom(d / "a.dcm", DEEP), DEEP),
    "xml": (lambda d: writers.write_heyex_xml(d, PIXELS), PIXELS),
    "xml-urls": (lambda d: writers.write_heyex_xml(d, PIXELS, urls=True), PIXELS),
    "tif-folder": (lambda d: writers.write_pictures(d / "s", PIXELS), PIXELS),
    "png-16-bit": (lambda d: writers.write_pictures(d / "s", DEEP, suffix=".png"), DEEP),
    "tif-pages": (lambda d: writers.write_multipage(d / "a.tif", PIXELS), PIXELS),
}


def _options(name: str) -> ReadOptions:
    return ReadOptions(shape=(12, 9, 5)) if name == "img" else ReadOptions()


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_and_order(name: str, tmp_path: Path) -> None:
    write, expected = FORMATS[name]
    volume = read_oct(write(tmp_path), _options(name))
    assert volume.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(volume.pixels, expected)


@pytest.mark.parametrize("name", [n for n in FORMATS if "folder" not in n and "16-bit" not in n])
@pytest.mark.parametrize("part", [0.03, 0.4, 0.97])
def test_truncated_file_is_one_clear_line(name: str, part: float, tmp_path: Path) -> None:
    path = FORMATS[name][0](tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    try:
        volume = read_oct(path, _options(name))
    except OctReadError as error:
        assert str(error).startswith(path.name) and "\n" not in str(error)
        assert len(error.reason) < 400
    else:  # only what lies behind the last pixel may be missing
        assert part > 0.9
        np.testing.assert_array_equal(volume.pixels, FORMATS[name][1])


@pytest.mark.parametrize("suffix", sorted({s for e in READERS.values() for s in e.suffixes}))
@pytest.mark.parametrize("content", [b"", b"this is only a text.\n" * 40, bytes(5000)])
def test_foreign_content_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"notes{suffix}"
    path.write_bytes(content)
    with pytest.raises(OctReadError) as caught:
        read_oct(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("name", ["mat", "mat-compressed", "oct", "fda", "dcm", "xml", "tif-pages"])
def test_random_damage_never_escapes(name: str, tmp_path: Path) -> None:
    """Flip bytes at random: a volume of sane size or an OctReadError, nothing else."""
    path = FORMATS[name][0](tmp_path)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(5)
    for _ in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 400), 6):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            volume = read_oct(path, _options(name))
        except OctReadError as error:
            assert error.reason
        else:
            assert volume.pixels.nbytes < 2**20


def test_no_reader_names_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(OctReadError, match=r"no reader.*\.mat"):
        read_oct(tmp_path / "a.xyz")
    with pytest.raises(FileNotFoundError):
        read_oct(tmp_path / "gone.mat")
    with pytest.raises(ValueError, match="expected one of"):
        read_all(tmp_path / "a.xyz", reader="philips")


def test_dicom_without_suffix_is_found(tmp_path: Path) -> None:
    path = writers.write_dicom(tmp_path / "IM0001", PIXELS)
    assert reader_for(path) == "dicom"
    assert read_oct(path).shape == PIXELS.shape


def test_several_volumes_need_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = writers.write_mat(tmp_path / "a.mat", PIXELS)
    one = read_oct(path)
    monkeypatch.setattr("ppi_med.data.oct.registry.read_all", lambda *_: [one, one])
    with pytest.raises(OctReadError, match="holds 2 volumes"):
        read_oct(path)
    assert read_oct(path, index=1) is one
    with pytest.raises(OctReadError, match="no volume 2"):
        read_oct(path, index=2)


def test_the_stack_of_a_folder_sorts_by_number(tmp_path: Path) -> None:
    pixels = writers.volume((12, 6, 5))
    folder = writers.write_pictures(tmp_path / "s", pixels, [f"B{n}" for n in range(1, 13)])
    np.testing.assert_array_equal(read_oct(folder).pixels, pixels)
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(OctReadError, match="no pictures"):
        read_oct(folder)


def test_the_pages_of_a_picture_count_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ppi_med.data.oct import volume

    path = writers.write_multipage(tmp_path / "a.tif", PIXELS)
    page = 4 * PIXELS[0].size  # a page alone is checked with 4 bytes a pixel
    monkeypatch.setattr(volume, "MAX_BYTES", page)
    assert PIXELS.nbytes > page
    with pytest.raises(OctReadError, match="the limit is"):
        read_oct(path)
