"""Show examples in docstrings as examples, with a heading or without.

Without the heading "Examples:" griffe takes a doctest for prose and its output `[1, 2]` for a link.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_BARE = re.compile(r"(?:\A|\n\n)((?:[ \t]*>>> .*)(?:\n(?!\n).*)*)")


class Examples(griffe.Extension):
    """Gives each example the heading that griffe knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = with_heading(obj.docstring.value)


def with_heading(text: str) -> str:
    r"""Return the docstring with each example under "Examples:".

    >>> with_heading("Add.\n\n>>> 1 + 1\n2")
    'Add.\n\nExamples:\n    >>> 1 + 1\n    2'
    """

    def heading(match: re.Match[str]) -> str:
        block = match.group(1)
        if block.startswith((" ", "\t")):
            return match.group(0)
        lines = "\n".join(f"    {line}" for line in block.splitlines())
        return match.group(0).replace(block, f"Examples:\n{lines}")

    return _BARE.sub(heading, text)
