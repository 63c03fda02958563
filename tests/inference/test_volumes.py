"""What is found and read: folders, single files, NIfTI, and what cannot be read."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import OctReadError, OctVolume, Spacing
from ppi_med.inference.volumes import find_inputs, load_volume, output_names, read_volumes
from tests.inference.conftest import Writer, retina

KNOWN = Spacing(0.01, 0.004, 0.03)


def test_a_folder_gives_vendor_files_and_nifti(tmp_path: Path, write_mat: Writer) -> None:
    write_mat(tmp_path / "b2.mat", retina(2, 8, 8))
    write_mat(tmp_path / "b10.mat", retina(2, 8, 8))
    write_nifti(tmp_path / "volumes" / "a.nii.gz", retina(2, 8, 8), KNOWN)
    write_nifti(tmp_path / "masks" / "a.nii.gz", retina(2, 8, 8), KNOWN)
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "empty").mkdir()
    found = find_inputs(tmp_path)
    assert [source.relative for source in found] == [
        "b2.mat",
        "b10.mat",
        "empty",
        "volumes/a.nii.gz",
    ]
    assert output_names(found) == ["b2", "b10", "empty", "volumes__a"]


def test_what_cannot_be_read_is_listed_and_says_why(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    paths = [text, tmp_path / "not_there.mat", empty]
    reasons = []
    for source in find_inputs(paths):
        with pytest.raises(OctReadError) as caught:
            read_volumes(source)
        reasons.append(caught.value.reason)
    assert "no reader for this kind of file" in reasons[0]
    assert ".nii.gz" in reasons[0]
    assert reasons[1] == "no such file or folder."
    assert reasons[2] == "no OCT file was found in this folder."


def test_names_never_collide(tmp_path: Path, write_mat: Writer) -> None:
    for folder in ("x", "y"):
        write_mat(tmp_path / folder / "a.mat", retina(2, 8, 8))
    (tmp_path / "x" / "a.vol").write_text("no volume")
    (tmp_path / "x" / "A.vol").write_text("no volume")
    both = [*find_inputs(tmp_path / "x"), *find_inputs(tmp_path / "y" / "a.mat")]
    names = output_names(both)
    assert len({name.casefold() for name in names}) == len(both) == 4


def test_a_further_volume_keeps_its_name(tmp_path: Path) -> None:
    for name in ("scan.e2e", "scan_2.e2e"):
        (tmp_path / name).write_text("holds two, it says")
    assert output_names(find_inputs(tmp_path)) == ["scan", "scan_2-e2e"]


def test_nifti_comes_back_as_it_was_converted(tmp_path: Path) -> None:
    pixels = retina(3, 8, 9)
    path = write_nifti(tmp_path / "a.nii.gz", pixels, KNOWN)
    (volume,) = read_volumes(find_inputs(path)[0])
    assert np.array_equal(volume.pixels, pixels)
    assert volume.spacing == KNOWN
    assert (volume.volume_id, volume.source, volume.reader) == ("a", "a.nii.gz", "nifti")
    assert len(volume.source_sha256) == 64


@pytest.mark.parametrize("damage", ["cut", "text", "float"])
def test_a_damaged_nifti_is_named(tmp_path: Path, damage: str) -> None:
    import nibabel as nib

    path = tmp_path / "a.nii.gz"
    if damage == "float":
        nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.float32), np.eye(4)), path)
    else:
        write_nifti(path, retina(3, 40, 50), KNOWN)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else gzip.compress(b"x"))
    with pytest.raises((OctReadError, OSError), match=r"a\.nii\.gz|truncated|Compressed file"):
        read_volumes(find_inputs(path)[0])


def test_options_fill_in_what_the_file_does_not_tell(tmp_path: Path, write_mat: Writer) -> None:
    path = write_mat(tmp_path / "a.mat", retina(2, 8, 8))
    source = find_inputs(path)[0]
    (plain,) = read_volumes(source)
    assert plain.spacing == Spacing()
    assert any("spacing unknown" in text for text in plain.warnings)
    (told,) = read_volumes(source, ReadOptions(spacing=KNOWN, laterality="OD"))
    assert told.spacing == KNOWN
    assert told.laterality == "OD"
    assert told.provenance["spacing_axial_mm"] == "user: --spacing"


def test_pictures_of_a_folder_are_one_volume(tmp_path: Path) -> None:
    from PIL import Image

    planes = retina(12, 8, 9)
    for number, plane in enumerate(planes):
        Image.fromarray(plane).save(tmp_path / f"b{number}.png")
    (source,) = find_inputs(tmp_path)
    (volume,) = read_volumes(source)
    assert np.array_equal(volume.pixels, planes)


def test_several_volumes_get_names_of_their_own(
    tmp_path: Path, write_mat: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ppi_med.data.oct import matlab

    path = write_mat(tmp_path / "a.mat", retina(2, 8, 8))
    two = [OctVolume(retina(2, 8, 8, seed), reader="matlab", source=path) for seed in (1, 2)]
    monkeypatch.setattr(matlab, "read", lambda path, options: two)
    volumes = read_volumes(find_inputs(path)[0])
    assert [volume.volume_id for volume in volumes] == ["a", "a_2"]


def test_16_bits_become_8() -> None:
    pixels = np.full((2, 4, 4), 4095, np.uint16)
    volume = load_volume(OctVolume(pixels, reader="example", source=Path("a.img")))
    assert volume.pixels.dtype == np.uint8
    assert volume.pixels.max() == 255
