"""What holds for the repository as a whole: versions, commands in the README, the lock, sizes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import ppi_med

ROOT = Path(__file__).resolve().parent.parent
LINE_OF_THE_LOCK = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][a-z0-9.]*( ; .+)?")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The files under git; outside a checkout (a source archive) there is nothing to test."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    result = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in result.stdout.split("\0") if name and (ROOT / name).exists()]


def test_one_version(project: dict[str, Any]) -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert project["version"] == ppi_med.__version__ == citation["version"]


def test_citation_names_the_paper() -> None:
    paper = yaml.safe_load(read("CITATION.cff"))["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == (
        ["Wang", "Yang", "Tao", "Gan", "Chen", "Kong", "Henao", "Carin"]
    )
    assert "2012.03369" in json.dumps(paper)


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), flags=re.MULTILINE))


def pages() -> list[str]:
    texts = [str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")]
    return sorted([*texts, "README.md", "CONTRIBUTING.md", ".ci/run"])


@pytest.mark.parametrize("page", pages())
def test_make_commands_exist(page: str) -> None:
    named = set(re.findall(r"^make (?:[A-Z]+=\S+ )*([a-z-]+)", read(page), flags=re.MULTILINE))
    named |= set(re.findall(r"`make (?:[A-Z]+=\S+ )*([a-z-]+)[^`]*`", read(page)))
    assert named <= makefile_targets()


def test_readme_starts_with_two_commands() -> None:
    blocks = re.findall(r"```\n(.*?)```", read("README.md"), flags=re.DOTALL)
    assert blocks[0] == "make train\nmake test\n"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_linked_files_exist(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", read(page)) if "://" not in link]
    missing = [link for link in links if not (ROOT / link.split("#")[0]).exists()]
    assert not missing


def test_lock_is_portable() -> None:
    lines = read("constraints.txt").splitlines()
    assert len(lines) > 100
    assert [line for line in lines if not LINE_OF_THE_LOCK.fullmatch(line)] == []


@pytest.mark.parametrize(
    "line",
    ["a @ https://example.org/a.whl", "torch==2.13.0+cpu", "-e .", "numpy>=2", "--index-url x"],
)
def test_a_line_that_is_not_portable_is_found(line: str) -> None:
    assert not LINE_OF_THE_LOCK.fullmatch(line)


def test_lock_holds_every_dependency(project: dict[str, Any]) -> None:
    locked = {re.split(r"==", line)[0] for line in read("constraints.txt").splitlines()}
    wanted = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    names = {re.split(r"[\[<>=!~; ]", entry)[0].lower().replace("_", "-") for entry in wanted}
    assert names - {"ppi-med"} <= locked


def test_no_large_file(tracked: list[Path]) -> None:
    assert [path.name for path in tracked if path.stat().st_size > 2**20] == []


def test_ci_script_is_executable_and_strict() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_documentation_loads_nothing_from_elsewhere() -> None:
    config = yaml.safe_load(read("mkdocs.yml"))
    assert config["theme"]["font"] is False
    assert not config.get("extra_javascript")
    assert not config.get("extra_css")


def test_every_page_is_in_the_navigation() -> None:
    nav = json.dumps(yaml.safe_load(read("mkdocs.yml"))["nav"])
    files = [str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")]
    assert [name for name in files if f'"{name}"' not in nav] == []
