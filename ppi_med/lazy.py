"""A package's public names, imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, where: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        where: public name -> module of the package that defines it.

    Examples:
        >>> names, get, _ = lazy_names("ppi_med", {"UsageError": "errors"})
        >>> names, get("UsageError").__name__
        (['UsageError'], 'UsageError')
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{where[name]}"), name)

    return sorted(where), get, lambda: sorted({"__name__", "__doc__", *where})
