"""The same bundle from the repository, from inside, packed, and from anywhere by its path."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ppi_med.bundle_tools.installed import open_bundle
from ppi_med.bundle_tools.pack import pack_bundle
from ppi_med.bundle_tools.root import bundle_root
from tests.bundles.tiny import BUNDLE, ROOT, run_bundle, settings


def found_places(config: str) -> dict[str, str]:
    """Return what a running bundle says of its places, as absolute paths."""
    from monai.bundle import ConfigWorkflow

    names = ("bundle_root", "dataset_dir", "ckpt_dir")
    asked = [f"@{name}" for name in names]
    workflow = ConfigWorkflow(config, logging_file=False, initialize=asked)
    return {
        name: os.path.abspath(place)
        for name, place in zip(names, workflow.initialize(), strict=True)
    }


@pytest.mark.parametrize(
    ("folder", "config"),
    [
        (ROOT, "bundles/ga_ppi/train.json"),
        (BUNDLE, "train.json"),
        (ROOT / "tests", "../bundles/ga_ppi/train.json"),
        (Path("/"), str(BUNDLE / "train.json")),
    ],
)
def test_in_the_repository(monkeypatch: pytest.MonkeyPatch, folder: Path, config: str) -> None:
    monkeypatch.chdir(folder)
    assert found_places(config) == {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(ROOT / "data" / "ga_phantom"),
        "ckpt_dir": str(BUNDLE / "models"),
    }


def unpacked(folder: Path) -> Path:
    packed = pack_bundle(open_bundle(BUNDLE), folder / "ga_ppi.zip", models=False)
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(folder)
    return folder / "ga_ppi"


@pytest.mark.parametrize(
    ("inside", "config"), [(".", "configs/train.json"), ("configs", "train.json"), ("..", "")]
)
def test_packed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inside: str, config: str) -> None:
    root = unpacked(tmp_path)
    monkeypatch.chdir(root / inside)
    assert found_places(config or str(root / "configs" / "train.json")) == {
        "bundle_root": str(root),
        "dataset_dir": str(root / "data" / "ga_phantom"),
        "ckpt_dir": str(root / "models"),
    }


def test_all_files_are_packed(tmp_path: Path) -> None:
    packed = pack_bundle(open_bundle(BUNDLE), tmp_path / "ga_ppi.zip", models=False)
    names = {member.removeprefix("ga_ppi/") for member in packed.members}
    configs = {f"configs/{file.name}" for file in BUNDLE.glob("*.json")}
    assert len(configs) == 7
    assert names == configs | {"configs/logging.conf", "docs/README.md", "LICENSE"}


def test_where_nothing_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert bundle_root("ga_ppi") == str(Path("bundles/ga_ppi"))
    monkeypatch.chdir(BUNDLE)
    assert bundle_root("ga_ppi") == "."


def test_a_packed_bundle_trains(
    monkeypatch: pytest.MonkeyPatch, phantom: Path, tmp_path: Path
) -> None:
    root = unpacked(tmp_path)
    monkeypatch.chdir(root)
    overrides = settings(phantom, tmp_path, method="plain", max_epochs=1)
    for key in ("output_dir", "ckpt_dir"):
        del overrides[key]
    from monai.bundle import run

    run(config_file="configs/train.json", logging_file=False, **overrides)
    assert (root / "models" / "model.pt").is_file()
    assert (root / "runs" / "plain_seed0" / "test.json").is_file()


@pytest.mark.slow
def test_by_the_users_own_command(phantom: Path, tmp_path: Path) -> None:
    overrides = settings(phantom, tmp_path, max_epochs=1)
    words = [f"--{key}={value!r}" for key, value in overrides.items()]
    command = [sys.executable, "-m", "monai.bundle", "run"]
    done = subprocess.run(
        [*command, "--config_file", "bundles/ga_ppi/train.json", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "epoch 1/1" in line)
    assert all(name in line for name in ("loss/cls", "loss/con", "loss/ad", "val/auc"))
    assert "held-out AUC" in done.stdout
    assert (tmp_path / "models" / "model.pt").is_file()


def test_the_helpers_do_not_train_elsewhere(phantom: Path, tmp_path: Path) -> None:
    """What the other tests rely on: nothing is written into the repository."""
    before = sorted((BUNDLE / "models").glob("*")) + sorted((BUNDLE / "runs").glob("*"))
    run_bundle("train.json", settings(phantom, tmp_path, method="plain", max_epochs=1))
    after = sorted((BUNDLE / "models").glob("*")) + sorted((BUNDLE / "runs").glob("*"))
    assert after == before
