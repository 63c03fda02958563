"""The files of `ppi_med.saliency` form no circle, also not in functions or for types."""

from __future__ import annotations

import ast
from pathlib import Path

import ppi_med.saliency

ROOT = Path(ppi_med.saliency.__file__).parent


def imports() -> dict[str, set[str]]:
    """Return each module with the modules of the package that it names in any import."""
    files = {
        ".".join(path.relative_to(ROOT.parents[1]).with_suffix("").parts): path
        for path in ROOT.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                found[name] |= names & files.keys()
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & files.keys()
    return found


def test_no_circles() -> None:
    left = imports()
    assert any(left.values())
    while left:
        done = {name for name, others in left.items() if not others & left.keys()}
        assert done, f"these import each other: {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in done}


def test_the_engine_knows_no_method() -> None:
    above = {"wbp", "completeness", "gradcam", "gradient", "names", "lrp", "occlusion", "symmetry"}
    for name, others in imports().items():
        if name.startswith("ppi_med.saliency.engine"):
            assert not {other.split(".")[2] for other in others if other.count(".") > 1} & above
