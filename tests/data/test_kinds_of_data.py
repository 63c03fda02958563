"""A data set given to another kind's bundle, and sources of several volumes from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppi_med.bundle_tools.photos import require_photos
from ppi_med.bundle_tools.preflight import require_dataset
from ppi_med.data.lidc.cases import load_cases, require_cases
from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct.volume import OctReadError
from ppi_med.errors import UsageError
from ppi_med.inference import find_inputs, read_volumes
from tests.data.oct import writers
from tests.data.oct.sites import convert

ITEMS: dict[str, dict[str, Any]] = {
    "volumes of OCT": {"image": "volumes/a.nii.gz"},
    "photographs": {"image": "train/a.JPEG"},
    "patches of CT": {"image": "patches.zarr", "group": "g", "row": 0},
}
CHECKS: dict[str, Callable[[Path], Any]] = {
    "volumes of OCT": require_dataset,
    "photographs": require_photos,
    "patches of CT": lambda path: require_cases(path.parent),
}


@pytest.mark.parametrize("given", ITEMS)
@pytest.mark.parametrize("bundle", CHECKS)
@pytest.mark.parametrize("part", ["training", "test", "unassigned"])
def test_each_bundle_takes_its_own_kind(tmp_path: Path, given: str, bundle: str, part: str) -> None:
    item = ITEMS[given] | {"label": 1, "subject": "a"}
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [], part: [item]}))
    if given == bundle:
        CHECKS[bundle](path)
        return
    with pytest.raises(UsageError, match=f"holds {given}, and this bundle takes {bundle}: name"):
        CHECKS[bundle](path)
    if bundle == "patches of CT":
        with pytest.raises(UsageError, match=f"holds {given}"):
            load_cases(tmp_path, "all")


def test_a_kind_of_ones_own_passes(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [{"image": "a.npy"}]}))
    for check in CHECKS.values():
        check(path)


def write_recordings(path: Path, count: int) -> None:
    """One FDA of several recordings of different pixels."""
    files = [
        writers.write_fda(path.with_suffix(f".{n}"), writers.volume((40, 24, 16), seed=n))
        for n in range(count)
    ]
    parts = [file.read_bytes() for file in files]
    path.write_bytes(parts[0][:-1] + b"".join(p[15:-1] for p in parts[1:]) + b"\0")
    for file in files:
        file.unlink()


ROWS = {
    "one a volume": (
        "a.fda,s,OD,1\na_2.fda,s,OS,0\na_3.fda,q,OD,1\n",
        [("a", "s", "OD", 1), ("a_2", "s", "OS", 0), ("a_3", "q", "OD", 1)]),
    "one of three": (
        "a_2.fda,s,OS,0\n", [("a", "", "", None), ("a_2", "s", "OS", 0), ("a_3", "", "", None)]),
    "an eye that no volume states": ("a.fda,s,OD,1\na.fda,s,OS,0\n", []),
    "one label for all": ("a.fda,s,,1\n", []),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_each_recording_of_an_fda_has_its_own_eye_and_label(tmp_path: Path, name: str) -> None:
    text, expected = ROWS[name]
    (tmp_path / "raw").mkdir()
    write_recordings(tmp_path / "raw" / "a.fda", 3)
    (tmp_path / "labels.csv").write_text("file,subject,eye,label\n" + text)
    report = convert(tmp_path / "raw", tmp_path / "out", labels=tmp_path / "labels.csv")
    manifest = tmp_path / "out" / "manifest.csv"
    rows = read_manifest(manifest) if manifest.exists() else []
    assert [(r.volume_id, r.subject, r.extra["eye"], r.label) for r in rows] == expected
    assert report.exit_code == int(not expected)
    (source,) = find_inputs(tmp_path / "raw")
    assert [volume.volume_id for volume in read_volumes(source)] == ["a", "a_2", "a_3"]


def test_a_recording_that_is_damaged(tmp_path: Path) -> None:
    """Where one ends too early the next cannot be found: the file is refused."""
    write_recordings(tmp_path / "a.fda", 2)
    content = (tmp_path / "a.fda").read_bytes()
    (tmp_path / "a.fda").write_bytes(content[: len(content) // 2 + 100])
    (source,) = find_inputs(tmp_path)
    with pytest.raises(OctReadError, match="truncated"):
        read_volumes(source)
