"""Published odd files: each decoded to its hash or refused for its reason, each series judged."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from ppi_med.data.dicom.header import Header, read_header
from ppi_med.data.dicom.index import index_tree, judged, read_tree
from ppi_med.data.dicom.pixels import PixelError, read_pixels
from ppi_med.data.dicom.store import HeaderStore
from ppi_med.data.dicom.tree import DicomFile, Opener

pytestmark = pytest.mark.data

# What the manifest says of a series, and how the index names it.
CODES = {
    "gantry tilt 18.5 deg; steps along the normal 4.0019, 1.0811, 6.9986 mm": {"tilt", "irregular"},
    "gantry tilt 14.0 deg": {"tilt"},
    "gap between z=28.107498 and z=38.107498: 10 mm where the step is 5 mm": {"gap"},
    "gap between instances 2 and 4: 1.0 mm where the step is 0.5 mm": {"gap"},
    "two instances at each of four positions": {"shared_positions"},
    "two orientations and two pixel sizes in one series": {"mixed_orientation", "mixed_spacing"},
    "colour: 3 samples a pixel": {"colour"},
    "enhanced multi-frame without functional groups: no positions, orientation or pixel spacing": {
        "no_geometry"
    },
    "a single frame is no volume": {"single_slice"},
    "a single slice is no volume": {"single_slice"},
    "no SeriesInstanceUID, position, orientation or pixel spacing": {"no_series", "no_geometry"},
    "file not readable": {"pixels"},
    "no pixels": {"pixels"},
    "pixels incomplete": {"pixels"},
    "a segmentation, not an image": {"not_an_image"},
}
# Words of the manifest's reasons that the index's own sentences must hold.
WORDS = {
    "ct_tilt_irregular": ["gantry tilt 18.5 deg", "4.0019, 1.0811, 6.9986 mm"],
    "ct_tilt_no_tag": ["gantry tilt 14.0 deg"],
    "ct_missing_slice": ["gap between z=28.107498 and z=38.107498", "10 mm where the step is 5 mm"],
    "mr_missing_slice": ["instance 2, instance 4", "1 mm where the step is 0.5 mm"],
    "mr_duplicate_positions": ["two instances at each of four positions"],
    "mr_mixed_orientation": ["two orientations", "two pixel sizes"],
    "mr_rgb": ["colour: 3 samples a pixel"],
}


def manifest(root: Path) -> list[dict[str, str]]:
    with (root / "MANIFEST.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def oddities(data_root: Path) -> Path:
    return data_root / "dicom_oddities"


def test_every_file_is_decoded_or_refused_as_listed(oddities: Path) -> None:
    rows = manifest(oddities)
    assert len(rows) == 60
    for row in rows:
        file = DicomFile(row["path"], "", (oddities / row["path"]).stat().st_size)
        if row["expected"] == "decoded":
            pixels = read_pixels(oddities, file)
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == row["sha256_pixels"], row["path"]
        else:
            with pytest.raises(PixelError) as caught:
                read_pixels(oddities, file)
            assert caught.value.reason == row["reason"], row["path"]


def folders(rows: list[dict[str, str]]) -> list[str]:
    return sorted({str(Path(row["path"]).parent) for row in rows})


def test_every_series_gets_its_verdict(oddities: Path, tmp_path: Path) -> None:
    rows = {row["path"]: row for row in manifest(oddities)}
    seen = set()
    for number, folder in enumerate(folders(list(rows.values()))):
        with HeaderStore(tmp_path / f"{number}.sqlite") as store:
            read_tree(oddities / folder, store, scheduler="serial")
            for series, verdict in judged(store):
                for file in series.files:
                    row = rows[f"{folder}/{file.path}"]
                    seen.add(f"{folder}/{file.path}")
                    assert verdict.status == row["series_expected"], row["path"]
                    if verdict.status == "refused":
                        found = {reason.code for reason in verdict.reasons}
                        assert CODES[row["series_reason"]] <= found, row["path"]
                    text = "; ".join(reason.text for reason in verdict.reasons)
                    assert all(word in text for word in WORDS.get(row["group"], [])), text
    assert seen == set(rows)


def test_order_runs_along_the_normal(oddities: Path, tmp_path: Path) -> None:
    for folder in ("mr_oblique", "mr_sagittal_compressed/j2k"):
        with HeaderStore(tmp_path / f"{Path(folder).name}.sqlite") as store:
            read_tree(oddities / folder, store, scheduler="serial")
            ((series, verdict),) = judged(store)
            numbers = [series.headers[i].number for i in verdict.stack.order]
            assert numbers == sorted(numbers, reverse=True)


def test_the_whole_tree_at_once(oddities: Path, tmp_path: Path) -> None:
    """The compressed sagittal folders share their UIDs; emri_small's comes six times."""
    with HeaderStore(tmp_path / "a.sqlite") as store:
        read_tree(oddities, store, scheduler="serial")
        found = [(series, verdict) for series, verdict in judged(store) if verdict.duplicates]
    sizes = {series.files[-1].path.split("/")[0]: len(series.files) for series, _ in found}
    assert sizes == {"mr_sagittal_compressed": 12, "multiframe": 6}
    texts = {verdict.reasons[0].text for _, verdict in found}
    assert texts == {
        "3 SOPInstanceUIDs come up to 4 times",
        "1 SOPInstanceUIDs come up to 6 times",
    }


def test_other_things_beside_them_stop_nothing(oddities: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(oddities / "mr_oblique", tree / "sound")
    for path in (tree / "sound").iterdir():
        path.chmod(0o644)
    (tree / "sound" / "note.txt").write_text("not an image")
    (tree / "sound" / "empty.dcm").write_bytes(b"")
    (tree / "sound" / "loop").symlink_to(tree)
    (tree / "sound" / "itself").symlink_to("itself")
    os.mkfifo(tree / "sound" / "pipe")
    closed = tree / "sound" / "closed.dcm"
    closed.write_bytes(b"\0" * 128 + b"DICM")
    closed.chmod(0)
    summary = index_tree(tree, tmp_path / "index", scheduler="serial", identified=True)
    assert summary.series == {"volume": 1}
    lines = (tmp_path / "index" / "errors.jsonl").read_text().splitlines()
    kinds = {json.loads(line)["file"]: json.loads(line)["kind"] for line in lines}
    assert kinds.pop("sound/itself") in ("link", "unreadable")
    # Root may open what is closed to others; there is nothing in it.
    expected = "not_dicom" if os.access(closed, os.R_OK) else "unreadable"
    assert kinds.pop("sound/closed.dcm") == expected
    assert kinds == {
        "sound/empty.dcm": "empty",
        "sound/loop": "link",
        "sound/note.txt": "not_dicom",
        "sound/pipe": "unreadable",
    }


def test_headers_are_enough(oddities: Path) -> None:
    """What cannot be decoded for want of bytes shows without decoding."""
    with Opener(oddities) as opener:
        for name in ("too_short", "no_pixel_data", "truncated"):
            path = f"damaged/{name}.dcm"
            header = read_header(opener, DicomFile(path, "", (oddities / path).stat().st_size))
            assert isinstance(header, Header) and header.pixel_problem
