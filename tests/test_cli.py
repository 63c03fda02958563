from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ppi_med import __version__
from ppi_med.cli import app
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.records import FolderRecords
from tests.bundle_tools.conftest import INFERENCE, METADATA, write

ROOT = Path(__file__).resolve().parent.parent


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    write(folder / "inference.json", INFERENCE)
    write(folder / "metadata.json", METADATA)
    write(folder / "docs" / "README.md", "small")
    write(folder / "LICENSE", "Apache-2.0")
    return folder


def test_version() -> None:
    assert call("--version").output == f"ppi-med {__version__}\n"


def test_help_names_the_commands() -> None:
    output = call("--help").output
    assert {"check", "pack"} <= set(output.split())


def test_help_says_each_command_whole() -> None:
    output = call("--help").output
    assert "Commands:" in output and "..." not in output.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("cross-site --methods plain,ppi_wbp_pl", "plain,ppi_wbp_place_coin"),
        ("weak-segmentation --methods grad", "gradcam_plus_plus"),
        ("copy li", "lidc_patches"),
        ("tables --selection ", "leave-one-site-out"),
    ],
)
def test_names_are_completed(words: str, found: str) -> None:
    line = f"ppi-med {words}"
    shell = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    shell["_PPI_MED_COMPLETE"] = "complete_bash"
    result = CliRunner().invoke(app, [], env=shell, prog_name="ppi-med")
    assert found in result.output.split()


def test_the_completed_names_are_those_that_there_are() -> None:
    from ppi_med.bundle_tools.installed import installed_bundles
    from ppi_med.cli.options import BUNDLES, MAPS, METHODS
    from ppi_med.handlers import methods
    from ppi_med.saliency import names

    assert set(METHODS) == set(methods.METHODS)
    assert set(MAPS) == set(names.METHODS)
    assert set(BUNDLES) == {bundle.name for bundle in installed_bundles()}


@pytest.mark.parametrize(
    "words",
    [
        ("cross-site", ROOT / "bundles/ga_ppi", "--sites", "a", "--methods", "plian"),
        ("compare-methods", "--bundle", ROOT / "bundles/cub_ppi", "--methods", "plian"),
        ("shortcut", "--methods", "plian"),
        ("shortcut", "--marks", "logo", "--methods", "plian"),
        ("device-shortcut", "--methods", "plian"),
        ("lidc-benchmark", "--methods", "plian"),
    ],
)
def test_the_nearest_name_is_said(words: tuple[str, ...], tmp_path: Path) -> None:
    result = call(*words, "--dry-run")
    assert str(result.exception).endswith("; did you mean plain?")


def test_check_in_order(bundle: Path) -> None:
    result = call("check", bundle)
    assert result.exit_code == 0
    assert "inference.json" in result.output
    assert "all resolve" in result.output


def test_check_names_the_key_and_fails(bundle: Path) -> None:
    write(bundle / "inference.json", {**INFERENCE, "device": "@no_such"})
    result = call("check", bundle)
    assert result.exit_code == 1
    assert "  device: refers to @no_such" in result.output


def test_set_takes_json_and_text(bundle: Path) -> None:
    assert call("check", bundle, "--set", "network_def#in_features=3").exit_code == 0
    result = call("check", bundle, "--set", "network_def#in_features=three")
    assert result.exit_code == 1
    assert "network_def" in result.output


def test_pack_prints_what_it_wrote(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.zip"
    result = call("pack", bundle, "--output", target)
    assert result.exit_code == 0
    assert "small/configs/inference.json" in result.output
    assert target.is_file()


@pytest.mark.parametrize("arguments", [["check", "no/such/folder"], ["check", ".", "--set", "x"]])
def test_a_usage_error_is_one_line(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ppi_med.cli", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("ppi-med: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_forwarded_command_keeps_its_options_and_exit_code(tmp_path: Path) -> None:
    assert "--key-file" in call("export-dicom", "--help").output
    words = ["export-dicom", "--series", tmp_path / "none", "--mask", "m.npy", "--output", tmp_path]
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("ppi-med export-dicom: There is no ")


@pytest.mark.parametrize(
    ("words", "total"),
    [
        (["shortcut", "--methods", "plain,ppi_wbp_shared", "--seeds", "0"], "4 of 4"),
        (
            ["shortcut", "--marks", "band", "--agreements", "1.0", "--methods", "plain"],
            "3 of 3",
        ),
        (["shortcut", "--detect"], "74 of 74"),
        (["device-shortcut", "--methods", "plain", "--splits", "0,2"], "4 of 4"),
        (["cross-site", "--preset", "ga-phantom", "--seeds", "0,1"], "32 of 32"),
        (
            ["cross-site", "--preset", "ga-phantom", "--sites", "site_a,site_b", "--seeds", "0"],
            "8 of 8",
        ),
    ],
)
def test_a_dry_run_lists_the_cells_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], total: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    result = call(*words, "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"{total} cells to run, no cell has been timed yet" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["bundles"]


def test_a_dry_run_counts_what_is_done_and_its_time(tmp_path: Path) -> None:
    words = ["shortcut", "--methods", "plain", "--seeds", "0", "--records", tmp_path, "--dry-run"]
    names = [line.split()[-1] for line in call(*words).output.splitlines()[:-1]]
    FolderRecords(tmp_path).write(Cell(names[0], {}), {"seconds": 7200.0})
    output = call(*words).output
    assert f"done     {names[0]}" in output
    hours = 2 * (len(names) - 1) / min(2, len(names) - 1)
    assert f"{len(names) - 1} of {len(names)} cells to run, about {hours:.1f} hours" in output
