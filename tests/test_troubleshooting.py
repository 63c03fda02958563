"""The texts of errors that docs/troubleshooting.md quotes are texts that the code can print."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
# Other libraries' texts stand under these names; they are theirs to change.
LIBRARIES = {"MLflow", "MONAI", "pip", "Python", "torch", "torchvision"}
VARIES = "\0"
# Names of things and no texts: kinds of errors, keys, packages.
NAME = re.compile(r"[A-Z]\w*Error|ppi-med|nvidia-\.\.\.|_target_|\$|\+")


def quoted(page: str) -> list[str]:
    """Return the texts in the page's headings that must stand in the code."""
    found = []
    for heading in re.findall(r"^### (.+)$", page, flags=re.MULTILINE):
        library = re.search(r"\((\w+)\)$", heading)
        if library:
            assert library[1] in LIBRARIES, f"{heading}: whose text is it?"
            continue
        found += [text for text in re.findall(r"`([^`]+)`", heading) if not NAME.fullmatch(text)]
    return found


def literals(source: str) -> Iterator[str]:
    """Yield the string literals of Python source, a mark in the place of what varies."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in node.values)
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else VARIES
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield str(node.value)


@cache
def printed() -> tuple[str, ...]:
    """Return all texts that the repository's code, bundles and Makefile can print."""
    sources = [*(ROOT / "ppi_med").rglob("*.py"), *(ROOT / "data_prep").glob("*.py")]
    texts = [text for path in sources for text in literals(path.read_text(encoding="utf-8"))]
    others = [ROOT / "Makefile", *(ROOT / "bundles").glob("*/*.json")]
    return (*texts, *(path.read_text(encoding="utf-8") for path in others))


def occurs(quote: str, texts: tuple[str, ...]) -> bool:
    """Say whether a text holds the quote, whose `...` stands for anything in one line."""
    parts = [re.escape(part.strip()) for part in quote.split("...") if part.strip()]
    pattern = re.compile(".*?".join(parts))
    return any(pattern.search(text) for text in texts)


@pytest.mark.parametrize("quote", quoted(PAGE.read_text(encoding="utf-8")))
def test_the_code_prints_what_the_page_quotes(quote: str) -> None:
    assert occurs(quote, printed())


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("lists ... volumes", True),
        ("m lists", True),
        ("lists volumes", False),
        ("volumes ... lists", False),
        ("expected one", False),
    ],
)
def test_a_text_that_the_code_lacks_is_found(quote: str, found: bool) -> None:
    source = 'def f(m, n):\n    raise ValueError(f"m lists {n} volumes of " "one place")\n'
    assert occurs(quote, tuple(literals(source))) is found


def test_every_heading_has_an_answer() -> None:
    blocks = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [block for block in blocks if not block.partition("\n")[2].strip()] == []
