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
from ppi_med.errors import UsageError

ROWS = [
    ManifestRow(
        "a",
        subject="s,1",
        visit="v1",
        site='north "x"',
        label=1,
        label_rule="two readers",
        n_slices=100,
        rows_px=512,
        columns_px=1000,
        spacing_columns_mm=0.1 + 0.2,
        spacing_rows_mm=None,
        source_file="a/ä.mat",
        source_sha256="ff",
        reader="matlab",
        provenance={"eye": "user: labels.csv"},
        warnings=("first.", "second, with a comma"),
        extra={"eye": "OD", "grader": "AB"},
    ),
    ManifestRow("b", extra={"eye": "", "grader": ""}),
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
    assert path.read_text().splitlines()[0] == ",".join([*COLUMNS, "eye", "grader"])
    assert ",".join(COLUMNS) == (
        "volume_id,subject,visit,site,label,label_rule,n_slices,rows_px,columns_px,"
        "spacing_columns_mm,spacing_rows_mm,spacing_slices_mm,source_file,source_sha256,reader,"
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


def test_tables_of_before_are_read(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "volume_id,subject,eye,visit,site,label,label_rule,n_slices,depth_px,width_px,"
        "spacing_lateral_mm,spacing_axial_mm,spacing_between_mm,source_file,source_sha256,reader,"
        "provenance,warnings\n"
        'a,s,OD,,,1,,3,496,512,0.01,0.004,0.2,f.vol,ff,vol,"{""width_px"": ""padded""}",[]\n'
    )
    (row,) = read_manifest(tmp_path / "m.csv")
    assert (row.rows_px, row.columns_px, row.extra) == (496, 512, {"eye": "OD"})
    spacing = (row.spacing_columns_mm, row.spacing_rows_mm, row.spacing_slices_mm)
    assert spacing == (0.01, 0.004, 0.2) and row.provenance == {"columns_px": "padded"}
    again = read_manifest(write_manifest(tmp_path / "n.csv", [row]))
    assert again == [row]


def test_numbers_that_went_through_pandas(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("volume_id,label,n_slices,spacing_rows_mm\na,1.0, 3.0 ,5e-1\n")
    (row,) = read_manifest(tmp_path / "m.csv")
    assert (row.label, row.n_slices, row.spacing_rows_mm) == (1, 3, 0.5)
    for column, text in (("label", "nan"), ("label", "1e999"), ("spacing_rows_mm", "inf")):
        (tmp_path / "m.csv").write_text(f"volume_id,{column}\na,{text}\n")
        with pytest.raises(UsageError, match=rf"m\.csv, line 2: {column} is '{text}'"):
            read_manifest(tmp_path / "m.csv")


def test_data_hash() -> None:
    from dataclasses import replace

    assert data_hash(ROWS) == data_hash(reversed(ROWS))
    assert data_hash(ROWS) != data_hash([replace(ROWS[0], label=0), ROWS[1]])
    assert data_hash(ROWS) == data_hash([replace(ROWS[0], warnings=()), ROWS[1]])
