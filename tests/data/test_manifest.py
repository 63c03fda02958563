"""The manifest: what is written is read back, typed; errors name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppi_med.data.manifest import (
    COLUMNS,
    ManifestRow,
    data_hash,
    iter_manifest,
    read_manifest,
    write_manifest,
)

ROWS = [
    ManifestRow(
        "a",
        subject="s,1",
        eye="OD",
        visit="v1",
        site='north "x"',
        label=1,
        label_rule="two readers",
        n_slices=100,
        depth_px=512,
        width_px=1000,
        spacing_lateral_mm=0.1 + 0.2,
        spacing_axial_mm=None,
        source_file="a/ä.mat",
        source_sha256="ff",
        reader="matlab",
        provenance={"eye": "user: labels.csv"},
        warnings=("first.", "second, with a comma"),
        extra={"grader": "AB"},
    ),
    ManifestRow("b", extra={"grader": ""}),
]


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = write_manifest(tmp_path / name, iter(ROWS))
    assert read_manifest(path) == ROWS
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_columns_as_agreed(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "manifest.csv", ROWS)
    assert path.read_text().splitlines()[0] == ",".join([*COLUMNS, "grader"])
    assert ",".join(COLUMNS) == (
        "volume_id,subject,eye,visit,site,label,label_rule,n_slices,depth_px,width_px,"
        "spacing_lateral_mm,spacing_axial_mm,spacing_between_mm,source_file,source_sha256,reader,"
        "provenance,warnings"
    )


def test_empty(tmp_path: Path) -> None:
    assert read_manifest(write_manifest(tmp_path / "m.csv", [])) == []


def test_reading_streams(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.csv", (ManifestRow(f"v{n}") for n in range(1000)))
    with path.open("a") as stream:
        stream.write("broken,line\n")
    rows = iter_manifest(path)
    assert [next(rows).volume_id for _ in range(1000)][-1] == "v999"
    with pytest.raises(ValueError, match=r"m.csv, line 1002"):
        next(rows)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "not a manifest"),
        ("volume_id,label\nx,one\n", "line 2: label is 'one'"),
        ("volume_id,n_slices\nx,1.5\n", "n_slices is '1.5'"),
        ("volume_id,label\n,1\n", "no volume_id"),
        ("volume_id,warnings\nx,{}\n", "warnings is"),
        ("volume_id,provenance\nx,oops\n", "provenance is 'oops'"),
    ],
)
def test_errors_name_the_place(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_writing_refuses_and_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = write_manifest(tmp_path / name, ROWS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'a' comes twice"):
        write_manifest(path, [ROWS[0], ROWS[0]])
    with pytest.raises(ValueError, match="extra columns"):
        write_manifest(path, [ROWS[0], ManifestRow("b")])
    with pytest.raises(ValueError, match="'reader' is one of the manifest's own"):
        write_manifest(path, [ManifestRow("b", extra={"reader": "AB"})])
    assert ManifestRow("b", extra={"volume_id": "c"}).cells()["volume_id"] == "b"
    assert path.read_bytes() == before
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "gone.csv")


def test_data_hash() -> None:
    from dataclasses import replace

    assert data_hash(ROWS) == data_hash(reversed(ROWS))
    assert data_hash(ROWS) != data_hash([replace(ROWS[0], label=0), ROWS[1]])
    assert data_hash(ROWS) == data_hash([replace(ROWS[0], warnings=()), ROWS[1]])
