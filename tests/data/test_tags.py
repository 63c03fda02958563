"""What a run says of its data is what the data set's own files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppi_med.data.datalist import dataset_hashes, sites_tag
from ppi_med.data.manifest import ManifestRow, data_hash, write_manifest
from ppi_med.data.splits import make_splits, write_splits

ROWS = [ManifestRow(f"v{n}", subject=f"s{n}", label=n % 2, site="a") for n in range(10)]


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_hashes_of_a_data_set(tmp_path: Path, name: str) -> None:
    write_manifest(tmp_path / name, ROWS)
    splits = make_splits(ROWS)
    assert dataset_hashes(tmp_path) == {"data_hash": data_hash(ROWS), "split_hash": None}
    write_splits(tmp_path / "splits.json", splits)
    assert dataset_hashes(tmp_path)["split_hash"] == splits.hash


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text("{}")
    with pytest.raises(ValueError, match=r"splits\.json"):
        dataset_hashes(tmp_path)


@pytest.mark.parametrize(
    ("sites", "exclude", "wanted"),
    [
        (None, None, "all"),
        ([], "", "all"),
        ("b", None, "b"),
        (["b", "a"], None, "b+a"),
        (None, ["c", "d"], "all-c-d"),
        (["a", "b"], "b", "a+b-b"),
    ],
)
def test_sites(sites, exclude, wanted: str) -> None:
    assert sites_tag(sites, exclude) == wanted
