"""The house in numbers, and the bounds that they may only fall below: `python tests/house.py`.

Files and lines of the library, circles between its files (imports inside functions and for types
are counted), packages whose arrows are guarded, functions of more than ten arguments, places that
resample, write Markdown tables or start processes.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "ppi_med"
MOST_ARGUMENTS = 10
BOUNDS = {
    "files": 320,
    "lines": 59600,
    "circles": 0,
    "packages without a guard": 0,
    "functions over ten arguments": 0,
    "intervals by resampling": 1,
    "table writers": 1,
    "pools": 1,
}
"""What each count may be at most: they are lowered where it has fallen, never raised."""
# What resamples, what draws the line under a Markdown table's head, what starts processes.
_RESAMPLES = re.compile(r"subject_weights\(|\.integers\([^)]*size=\(repeats")
_TABLE = re.compile(r'"\| ?---|\["---"\]')
_POOL = re.compile(r"ProcessPoolExecutor\(|LocalCluster\(|distributed\.Client\(|\.Pool\(")


@cache
def sources() -> Mapping[str, str]:
    """Return the source of each module of the library by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted(LIBRARY.rglob("*.py"))
    }


def imported(module: str) -> Iterator[str]:
    """Yield the modules of the library that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(sources()[module])):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = ".".join([*module.split(".")[: -node.level]] if node.level else [])
            stem = ".".join(part for part in (stem, node.module or "") if part)
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        # A package stands for its __init__; a name that a module defines is no module.
        yield from (name for name in names if name in sources())
        yield from (f"{n}.__init__" for n in names[:1] if f"{n}.__init__" in sources())


def circles() -> list[list[str]]:
    """Return the groups of modules that import each other, directly or by others."""
    arrows = {module: set(imported(module)) - {module} for module in sources()}
    reached = {module: _reachable(module, arrows) for module in arrows}
    groups = {
        frozenset(o for o in reached[m] if m in reached[o]) for m in arrows if m in reached[m]
    }
    return sorted(sorted(group) for group in groups)


def _reachable(module: str, arrows: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        new = arrows[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def packages() -> set[str]:
    """Return the packages of the library."""
    return {name.split(".")[1] for name in sources() if name.count(".") > 1}


def unguarded() -> set[str]:
    """Return the packages whose arrows tests/test_architecture.py does not name."""
    sys.path.insert(0, str(ROOT))
    try:
        from tests.test_architecture import guarded
    finally:
        sys.path.remove(str(ROOT))
    return packages() - guarded()


def long_signatures() -> list[str]:
    """Return functions of more than ten arguments, but constructors, factories and commands.

    A constructor or a factory (``_target_``) is filled by a JSON file, a command by a shell.
    """
    shown = [*(ROOT / "bundles").rglob("*.json"), *(ROOT / "docs").rglob("*.md")]
    texts = [path.read_text(encoding="utf-8") for path in shown]
    found = []
    for module, source in sources().items():
        if module.startswith("ppi_med.cli."):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef) or node.name == "__init__":
                continue
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [argument for argument in every if argument.arg not in ("self", "cls")]
            called = re.compile(rf"ppi_med[\w.]*\.{node.name}\b|\$@?{node.name}\(")
            if len(named) > MOST_ARGUMENTS and not any(called.search(text) for text in texts):
                found.append(f"{module}.{node.name} ({len(named)})")
    return found


def matching(pattern: re.Pattern[str]) -> list[str]:
    """Return the modules in which a pattern occurs."""
    return [module for module, source in sources().items() if pattern.search(source)]


def counts() -> dict[str, tuple[int, list[str]]]:
    """Return each count with what is counted, where that can be named."""
    named = {
        "circles": [" <-> ".join(group) for group in circles()],
        "packages without a guard": sorted(unguarded()),
        "functions over ten arguments": long_signatures(),
        "intervals by resampling": matching(_RESAMPLES),
        "table writers": matching(_TABLE),
        "pools": matching(_POOL),
    }
    lines = sum(source.count("\n") for source in sources().values())
    return {
        "files": (len(sources()), []),
        "lines": (lines, []),
        **{name: (len(found), found) for name, found in named.items()},
    }


def main() -> None:
    """Print the counts with their bounds."""
    for name, (number, found) in counts().items():
        print(f"{name}: {number} (at most {BOUNDS[name]})")
        for one in found if name != "table writers" or number > 1 else ():
            print(f"    {one}")


if __name__ == "__main__":
    main()
