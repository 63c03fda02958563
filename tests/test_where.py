"""The rows of docs/explanation/where.md and the ways in design.md name what is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "explanation"
ROW = re.compile(r"^\| (.+?) \| `([\w/]+\.py)` `(\w+)` \| `([\w/]+\.py)` `(\w+)` \|$", re.MULTILINE)
# The most files of each way.
WAYS = {
    "An OCT file becomes NIfTI": 15,
    "An image becomes a loss": 35,
    "A CT series becomes patches": 20,
    "A sweep becomes a heat map": 14,
}


def rows() -> list[tuple[str, ...]]:
    return ROW.findall((PAGES / "where.md").read_text(encoding="utf-8"))


@cache
def defined(path: Path) -> set[str]:
    """The functions and classes of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}


def test_every_line_of_the_tables_is_a_row() -> None:
    text = (PAGES / "where.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows()) == len(lines) > 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_code_and_test_are_there(row: tuple[str, ...]) -> None:
    _, code, name, test, case = row
    assert name in defined(ROOT / "ppi_med" / code)
    assert case in defined(ROOT / "tests" / test)


@pytest.mark.parametrize("way", WAYS)
def test_a_way_names_files_in_the_order_of_their_use(way: str) -> None:
    text = (PAGES / "design.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"**{way}.**")]
    files = re.findall(r"`([\w/]+\.py)`", line)
    assert len(files) == len(set(files)) and 5 < len(files) <= WAYS[way]
    missing = [file for file in files if not (ROOT / "ppi_med" / file).is_file()]
    assert not missing


def test_the_floors_of_the_page_are_those_of_the_test() -> None:
    from tests.test_architecture import FLOORS

    text = (PAGES / "design.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (?:top|\d|ground) \| (.+) \|$", text, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", line)) for line in shown[::-1]] == list(FLOORS)
