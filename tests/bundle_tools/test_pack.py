from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from ppi_med.bundle_tools.installed import open_bundle
from ppi_med.bundle_tools.pack import pack_bundle
from ppi_med.errors import UsageError


@pytest.fixture
def full(folder: Path) -> Path:
    """The bundle with weights, and with what must stay out."""
    for name in ("models/model.pt", "models/fold/model.ts", "docs/images/a.png", "runs/1/model.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 100)
    (folder / "models" / "optimizer.log").write_text("x")
    (folder / ".hidden.json").write_text("{}")
    (folder / "docs" / ".DS_Store").write_text("x")
    (folder / "notes.txt").write_text("x")
    return folder


MEMBERS = [
    "LICENSE", "configs/inference.json", "configs/logging.conf", "configs/metadata.json",
    "configs/train.json", "docs/README.md", "docs/images/a.png", "models/fold/model.ts",
    "models/model.pt",
]  # fmt: skip


def test_layout_and_content(full: Path, tmp_path: Path) -> None:
    packed = pack_bundle(open_bundle(full), tmp_path / "out.zip")
    assert list(packed.members) == [f"small/{name}" for name in MEMBERS]
    with zipfile.ZipFile(packed.path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(packed.members)
        for name in MEMBERS:
            flat = full / name.removeprefix("configs/")
            assert archive.read(f"small/{name}") == flat.read_bytes()
        assert all(info.external_attr >> 16 == 0o644 for info in archive.infolist())


def test_the_default_name_holds_the_version(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pack_bundle(open_bundle(full)).path == Path("small_v0.2.0.zip")
    assert (tmp_path / "small_v0.2.0.zip").is_file()


def test_same_files_same_bytes(full: Path, tmp_path: Path) -> None:
    one = pack_bundle(open_bundle(full), tmp_path / "1.zip").path.read_bytes()
    (full / "train.json").touch()
    assert pack_bundle(open_bundle(full), tmp_path / "2.zip").path.read_bytes() == one


def test_models_can_be_left_out(full: Path, tmp_path: Path) -> None:
    packed = pack_bundle(open_bundle(full), tmp_path / "out.zip", models=False)
    assert not [name for name in packed.members if "/models/" in name]


def test_the_packed_bundle_is_a_bundle(full: Path, tmp_path: Path) -> None:
    packed = pack_bundle(open_bundle(full), tmp_path / "out.zip")
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(tmp_path / "unpacked")
    unpacked = open_bundle(tmp_path / "unpacked" / "small")
    assert [file.name for file in unpacked.workflows()] == ["train.json", "inference.json"]
    again = pack_bundle(unpacked, tmp_path / "again.zip")
    assert again.path.read_bytes() == packed.path.read_bytes()


@pytest.mark.parametrize("name", ["docs/secret.md", "train.json", "models/model.pt"])
def test_a_link_out_of_the_bundle_is_refused(full: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("{}")
    (full / name).unlink(missing_ok=True)
    (full / name).symlink_to(outside)
    with pytest.raises(UsageError, match="link out of the bundle"):
        pack_bundle(open_bundle(full), tmp_path / "out.zip")
    assert not list(tmp_path.glob("*.zip"))


def test_a_linked_folder_is_not_followed(full: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.md").write_text("x")
    (full / "docs" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    packed = pack_bundle(open_bundle(full), tmp_path / "out.zip")
    assert not [name for name in packed.members if "secret" in name]


@pytest.mark.parametrize("name", ["a\\..\\b.md", "-rf.md", "new\nline.md", "c:evil.md"])
def test_names_that_are_not_safe_are_refused(full: Path, tmp_path: Path, name: str) -> None:
    (full / "docs" / name).write_text("x")
    with pytest.raises(UsageError, match="not safe"):
        pack_bundle(open_bundle(full), tmp_path / "out.zip")


@pytest.mark.parametrize("name", ["LICENSE", "docs/README.md", "metadata.json"])
def test_what_the_zoo_asks_for_must_be_there(full: Path, tmp_path: Path, name: str) -> None:
    (full / name).unlink()
    with pytest.raises(UsageError, match=name.split("/")[-1]):
        pack_bundle(open_bundle(full), tmp_path / "out.zip")


@pytest.mark.parametrize("version", ["../../x", "", None, 3])
def test_a_version_that_is_no_name_is_refused(full: Path, version: object) -> None:
    (full / "metadata.json").write_text(json.dumps({"version": version}))
    with pytest.raises(UsageError, match="version"):
        pack_bundle(open_bundle(full))


def test_a_failure_leaves_the_old_zip(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.zip"
    target.write_text("old")

    def full_disk(*args: object, **options: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(zipfile.ZipFile, "open", full_disk)
    with pytest.raises(OSError, match="no space"):
        pack_bundle(open_bundle(full), target)
    assert target.read_text() == "old"
    assert not list(tmp_path.glob(".*"))
