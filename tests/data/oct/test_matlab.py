"""MATLAB files: axes, variables, types, masks; sizes and links that must not be trusted."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from ppi_med.data.oct.matlab import list_variables, load_variable, read_mat
from ppi_med.data.oct.volume import MAX_BYTES, OctReadError
from tests.data.oct.writers import volume, write_mat, write_mat73

PIXELS = volume((5, 12, 9))


@pytest.mark.parametrize("compress", [False, True])
def test_values_equal_scipys(compress: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "a.mat"
    content = {
        kind: (rng.random((3, 4, 2)) * 100).astype(kind)
        for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
    }
    content |= {"scalar": np.array([[7.0]]), "a_long_name_of_a_variable": rng.random((2, 2))}
    passed_over = {"text": "hello", "cell": np.array([1, "a"], dtype=object), "empty": np.zeros(0)}
    savemat(path, {"text": "first", **content, **passed_over}, do_compression=compress)
    listed = list_variables(path)
    oracle = loadmat(path)
    assert set(listed) == set(content)
    for name, variable in listed.items():
        np.testing.assert_array_equal(load_variable(path, variable), oracle[name])


def test_other_byte_order(tmp_path: Path) -> None:
    values = np.arange(24, dtype=">u2").reshape(2, 3, 4)
    body = struct.pack(">4I", 6, 8, 11, 0) + struct.pack(">2I3i4x", 5, 12, 2, 3, 4)
    body += struct.pack(">HH4s", 1, 1, b"v") + struct.pack(">2I", 4, 48) + values.tobytes("F")
    path = tmp_path / "a.mat"
    path.write_bytes(b"".ljust(124) + b"\1\0MI" + struct.pack(">2I", 14, len(body)) + body)
    np.testing.assert_array_equal(load_variable(path, list_variables(path)["v"]), values)


@pytest.mark.parametrize("write", [write_mat, write_mat73])
def test_named_variables_and_mask(write, tmp_path: Path) -> None:
    lesion = (volume((5, 12, 9), seed=4) > 128).astype(np.uint8)
    first = lesion.transpose(1, 2, 0) if write is write_mat else lesion.transpose(0, 2, 1)
    path = write(tmp_path / "a.mat", PIXELS, lesion=first)
    read = read_mat(path, mask_variable="lesion")
    np.testing.assert_array_equal(read.pixels, PIXELS)
    np.testing.assert_array_equal(read.mask, lesion)
    assert read.spacing == (None, None, None) and read.laterality is None
    with pytest.raises(OctReadError, match=r"no variable 'gone'.*\['images', 'lesion'\]"):
        read_mat(path, variable="gone")
    with pytest.raises(OctReadError, match="for the mask"):
        read_mat(path, mask_variable="gone")


def test_which_variable(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "a.mat", PIXELS, "one", layers=np.zeros((5, 9)))
    assert read_mat(path).meta["variable"] == "one"
    path = write_mat(tmp_path / "b.mat", PIXELS, "one", two=np.zeros((2, 3, 4)))
    with pytest.raises(OctReadError, match=r"several: \['one', 'two'\]"):
        read_mat(path)
    assert read_mat(path, variable="one").shape == PIXELS.shape
    savemat(tmp_path / "c.mat", {"Age": 70.0})
    with pytest.raises(OctReadError, match="none among"):
        read_mat(tmp_path / "c.mat")
    with pytest.raises(OctReadError, match="expected three axes"):
        read_mat(tmp_path / "c.mat", variable="Age")


def test_axes(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"images": PIXELS})  # (n, depth, width)
    np.testing.assert_array_equal(read_mat(path, axes="ndw").pixels, PIXELS)
    assert read_mat(path, axes="ndw").warnings == []
    assert "not the shortest" in read_mat(path).warnings[0]
    with pytest.raises(ValueError, match="letters d, w and n"):
        read_mat(path, axes="xyz")


def test_pixel_types(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "a.mat", PIXELS / 255.0)
    with pytest.raises(OctReadError, match="--window"):
        read_mat(path)
    np.testing.assert_array_equal(read_mat(path, window=(0, 1)).pixels, PIXELS)
    signed = write_mat(tmp_path / "b.mat", PIXELS.astype(np.int16) - 10)
    with pytest.raises(OctReadError, match="from -10 to"):
        read_mat(signed)
    big = write_mat(tmp_path / "c.mat", PIXELS.astype(np.int32) * 200)
    np.testing.assert_array_equal(read_mat(big).pixels, PIXELS.astype(np.uint16) * 200)


def _matrix(shape: tuple[int, int, int], n_bytes: int, data: bytes) -> bytes:
    body = struct.pack("<4I", 6, 8, 9, 0) + struct.pack("<2I3i4x", 5, 12, *shape)
    body += struct.pack("<HH4s", 1, 1, b"v") + struct.pack("<2I", 2, n_bytes) + data
    return struct.pack("<2I", 14, len(body)) + body


HEAD = b"".ljust(124) + b"\0\1IM"


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((2000, 2000, 2000), "GiB"),
        ((100, 100, 100), "truncated or not of this format|holds only"),
        ((-5, 10, 10), "expected positive"),
        ((2**31 - 1, 2**31 - 1, 2**31 - 1), "GiB"),
    ],
)
def test_claimed_sizes_take_no_memory(shape, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(HEAD + _matrix(shape, 64, bytes(64)))
    with pytest.raises(OctReadError, match=reason):
        read_mat(path)


def test_deflate_bomb(tmp_path: Path) -> None:
    """A gibibyte of zeros in a megabyte is possible; claimed for a few hundred bytes it is not."""
    shape = (1000, 1000, 1000)
    packed = zlib.compress(_matrix(shape, 10**9, bytes(1000)))
    path = tmp_path / "a.mat"
    path.write_bytes(HEAD + struct.pack("<2I", 15, len(packed)) + packed)
    with pytest.raises(OctReadError, match="holds only"):
        read_mat(path)
    assert MAX_BYTES > 10**9


def test_hdf5_must_not_lead_elsewhere(tmp_path: Path) -> None:
    import h5py

    secret = write_mat73(tmp_path / "secret.mat", PIXELS)
    for name in ("soft", "external", "virtual", "raw"):
        path = tmp_path / f"{name}.mat"
        with h5py.File(path, "w") as file:
            if name == "soft":
                file["images"] = h5py.SoftLink("/elsewhere")
            elif name == "external":
                file["images"] = h5py.ExternalLink(str(secret), "images")
            elif name == "virtual":
                layout = h5py.VirtualLayout((5, 9, 12), np.uint8)
                layout[:] = h5py.VirtualSource(str(secret), "images", shape=(5, 9, 12))
                file.create_virtual_dataset("images", layout)
            else:
                where = [(str(secret), 0, 540)]
                file.create_dataset("images", (5, 9, 12), np.uint8, external=where)
        with pytest.raises(OctReadError, match="none among|other files"):
            read_mat(path)


def test_hdf5_sizes_without_stored_bytes(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (1000, 1000, 1000), np.uint8, chunks=(1, 1000, 1000))
    with pytest.raises(OctReadError, match="holds only 0"):
        read_mat(path)
