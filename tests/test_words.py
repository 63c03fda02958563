"""The prose keeps its house style: one form of docstrings, no phrase that has to be read twice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for top in ("ppi_med", "data_prep") for path in (ROOT / top).rglob("*.py"))
# What mkdocs would show as it stands, and the second form of a heading.
STYLE = re.compile(r"``|:(?:class|func|meth|mod|attr|data|obj|exc):`|^\s*Example:$", re.MULTILINE)
SECTIONS = re.compile(r"^(Args|Attributes|Raises):\n((?:(?: +.*)?\n)+)", re.MULTILINE)
# Phrases that are not English, or that have to be read twice.
PHRASES = re.compile(
    r"(?:(?<!there )\b(?:is|are|was|were) none\b(?! of)|\btold\b|\banew\b|\bbelongs? into"
    r"|\bpass(?:ed)? over|\bcosts? the others|\bof before\b|\bfor good\b|\bstands? beside"
    r"|\bgone? on with|\bhand(?:s|ed)? over|\bcome along|\bas often as you like|\bnobody\b"
    r"|\bwhat came of it|\bnames? the near ones|\ball well\b)",
)
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "bundles").glob("*/docs/*.md"),
        *(ROOT / "bundles").glob("*/metadata.json"),
        *(ROOT / "notebooks").glob("*.ipynb"),
        *FILES,
    ]
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text


def unfinished(docstring: str) -> list[str]:
    """Return the descriptions of arguments and errors that have no full stop."""
    found = []
    for _, body in SECTIONS.findall(docstring + "\n"):
        items = re.split(r"^ {4}(?=\S)", body, flags=re.MULTILINE)[1:]
        texts = [item.split("\n\n")[0].rstrip() for item in items]
        found += [text for text in texts if not text.endswith((".", "?"))]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_have_one_style(path: Path) -> None:
    texts = list(docstrings(path.read_text(encoding="utf-8")))
    assert [found[0] for text in texts for found in STYLE.finditer(text)] == []
    assert [part for text in texts for part in unfinished(text)] == []


@pytest.mark.parametrize(
    ("docstring", "wanted"),
    [
        ("One.\n\nArgs:\n    a: a size.\n    b: of\n        two lines.", []),
        ("One.\n\nArgs:\n    a: a size\n    b: two.\n", ["a: a size"]),
        ("One.\n\nRaises:\n    ValueError: no size.\n\nText", []),
        ("One.\n\nReturns:\n    A size", []),
    ],
)
def test_a_missing_full_stop_is_found(docstring: str, wanted: list[str]) -> None:
    assert unfinished(docstring) == wanted


def test_double_backticks_roles_and_example_are_found() -> None:
    assert len(STYLE.findall("See ``a``, :func:`b`.\n\n    Example:\n        >>> 1")) == 4


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_has_to_be_read_twice(path: Path) -> None:
    assert PHRASES.findall(" ".join(path.read_text(encoding="utf-8").split())) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a size that is none", ["is none"]),
        ("Files are passed over", ["passed over"]),
        ("what belongs into it", ["belongs into"]),
        ("it is none of these, there is none, untold", []),
    ],
)
def test_a_phrase_is_found(text: str, wanted: list[str]) -> None:
    assert PHRASES.findall(text) == wanted
