"""Write the reference at build time: one page a part of the package, from its docstrings.

A module that is added is in the reference without anybody listing it.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).resolve().parent.parent / "ppi_med"
SECTION = "Reference"
SUBSECTION = "Python"


def parts() -> dict[str, list[str]]:
    """Return the modules of each page, by the page's name; modules of no part come first."""
    alone = [path.stem for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"]
    pages = {"ppi_med": [f"ppi_med.{name}" for name in alone]}
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        pages[folder.name] = [name for part in packages(folder) for name in modules(part)]
    return pages


def packages(folder: Path) -> list[Path]:
    """Return `folder` and the packages below it."""
    return sorted(path.parent for path in folder.rglob("__init__.py"))


def modules(folder: Path) -> list[str]:
    """Return the dotted name of a package, then those of its public modules."""
    package = ".".join(["ppi_med", *folder.relative_to(PACKAGE).parts])
    names = [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]
    return [package, *(f"{package}.{name}" for name in names)]


def page(name: str, modules: list[str]) -> str:
    """Return a page's text; of a package itself only the description is shown."""
    blocks = [f"# {name}"]
    for module in modules:
        folder = PACKAGE.joinpath(*module.split(".")[1:])
        own = "\n    options:\n      members: false" if folder.is_dir() else ""
        blocks.append(f"::: {module}{own}")
    return "\n\n".join(blocks) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the navigation, behind those that are written by hand."""
    entries = [{name: f"reference/{name}.md"} for name in parts()]
    for entry in config.nav or []:
        if SECTION in entry:
            entry[SECTION] = [*entry[SECTION], {SUBSECTION: entries}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages themselves."""
    for name, modules in parts().items():
        text = page(name, modules)
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files
