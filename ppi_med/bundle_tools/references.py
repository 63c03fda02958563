"""Checks of a configuration's references and expressions that execute nothing."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

_REFERENCE = re.compile(r"@\w*(?:(?:::|#)\w*)*")


def missing_references(parser: ConfigParser) -> set[str]:
    """Return the ids that a parsed configuration refers to but does not have."""
    resolver = parser.ref_resolver
    wanted: set[str] = set()
    for key, item in resolver.items.items():
        wanted.update(resolver.find_refs_in_config(item.get_config(), key))
    return wanted - set(resolver.items)


def accepted_by(parser: ConfigParser, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides that fit a configuration.

    A top key must exist or be referred to; a nested key needs its outer key.

    Args:
        parser: parser of the configuration.
        overrides: values by id, separated by `#` or `::`.
    """
    known = set(parser.get()) | missing_references(parser)
    accepted = {}
    for key, value in overrides.items():
        *outer, _ = re.split("#|::", key)
        if key in known if not outer else parser.get("::".join(outer)) is not None:
            accepted[key] = value
    return accepted


def near_name(wanted: str, names: Iterable[str]) -> str:
    """Return a hint at the nearest id, or an empty string.

    Examples:
        >>> near_name("netwrok", ["network", "loss"])
        '; did you mean @network'
        >>> near_name("netwrok", [])
        ''
    """
    close = difflib.get_close_matches(wanted, list(names), n=1)
    return f"; did you mean @{close[0]}" if close else ""


def compile_error(value: Any) -> str | None:
    """Return the fault in the syntax of an expression ("$..."), or None.

    Other values have no syntax and are accepted.

    Examples:
        >>> compile_error("$@train::trainer.run()")
        >>> compile_error("$@train::trainer.run(")
        "is no valid Python: '(' was never closed"
    """
    if not isinstance(value, str) or not value.startswith("$"):
        return None
    code = _REFERENCE.sub("reference", value[1:]).strip()
    try:
        # MONAI executes imports and evaluates all others.
        ast.parse(code, mode="exec" if code.startswith(("import ", "from ")) else "eval")
    except SyntaxError as error:
        return f"is no valid Python: {error.msg}"
    return None
