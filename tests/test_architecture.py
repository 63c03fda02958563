"""The arrows between the parts of the package, read from the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ppi_med"

# From the ground up: a package may use those of the floors below it, and no other.
FLOORS: tuple[set[str], ...] = (
    {"evaluation", "intervention", "networks", "saliency"},
    {"data", "training"},
    {"baselines", "phantoms", "places"},
    {"bundle_tools", "inference"},
    {"tracking"},
    {"handlers"},
    {"segmentation"},
    {"audit", "experiments", "export"},
    {"cli"},
)
PPI = {"saliency", "intervention", "handlers"}
# What the floors alone would allow.
APART = {"data": PPI, "networks": PPI, "evaluation": PPI}


def floor_of(part: str) -> int:
    """Return the floor of a package; that of a module beside them is below all."""
    return next((floor for floor, parts in enumerate(FLOORS) if part in parts), -1)


def guarded() -> set[str]:
    """Return the packages that have a floor."""
    return set().union(*FLOORS)


def imported_parts(source: str, module: str) -> Iterator[str]:
    """Yield the parts of ppi_med that a module's source imports, anywhere in it.

    Args:
        source: the module's text.
        module: its dotted name; a package's ends in `.__init__`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            stem = [*base, *([node.module] if node.module else [])]
            names = [".".join([*stem, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "ppi_med" and rest:
                yield rest.split(".")[0]


def wrong_arrows(source: str, module: str) -> set[str]:
    """Return the parts that the module imports and must not."""
    part = module.split(".")[1]
    other = set(imported_parts(source, module)) - {part}
    above = {one for one in other if floor_of(one) >= max(floor_of(part), 0)}
    return above | (other & APART.get(part, set()))


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_package_has_a_floor() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= guarded(), f"give {sorted(folders - guarded())} a floor"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    module = ".".join(["ppi_med", *path.relative_to(PACKAGE).with_suffix("").parts])
    wrong = wrong_arrows(path.read_text(encoding="utf-8"), module)
    assert not wrong, f"{module} must not import {sorted(wrong)}"


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("ppi_med.saliency.wbp", "import ppi_med.handlers.ppi", {"handlers"}),
        ("ppi_med.saliency.wbp", "from ppi_med.intervention import masks", {"intervention"}),
        ("ppi_med.data.splits", "def f():\n    from ppi_med import saliency", {"saliency"}),
        ("ppi_med.networks.__init__", "from ..handlers import ppi", {"handlers"}),
        ("ppi_med.networks.a", "from .. import cli", {"cli"}),
        ("ppi_med.other", "from ppi_med.cli import app", {"cli"}),
        ("ppi_med.io", "import ppi_med.data.splits", {"data"}),
        ("ppi_med.handlers.ppi", "from ppi_med.experiments import run", {"experiments"}),
        ("ppi_med.experiments.run", "from ppi_med.export import dicom", {"export"}),
        ("ppi_med.cli.maps", "from ppi_med.cli.options import names", set()),
        ("ppi_med.intervention.masks", "from ppi_med.saliency import WBP", {"saliency"}),
        ("ppi_med.intervention.masks", "from . import fills", set()),
        ("ppi_med.data.splits", "import numpy\nfrom ppi_med.io import atomic_path", set()),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str, wrong: set[str]) -> None:
    assert wrong_arrows(source, module) == wrong


@pytest.mark.parametrize("module", ["ppi_med", "ppi_med.cli", "ppi_med.io", "ppi_med.naming"])
def test_import_is_light(module: str) -> None:
    heavy = {"torch", "numpy", "monai", "mlflow", "matplotlib", "torchvision", "scipy", "pandas"}
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert result.stdout.split() == []
