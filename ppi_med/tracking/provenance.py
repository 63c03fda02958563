"""The versions and the commit of a run."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ppi_med import __version__, naming

PACKAGES = ("torch", "monai", "pytorch-ignite", "mlflow", "numpy")
_LONGEST = 5000


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on.

    Examples:
        >>> "torch" in versions()
        True
    """
    found = {"python": platform.python_version(), "ppi_med": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit(folder: str | os.PathLike[str] | None = None) -> str | None:
    """Return the commit of a repository, with "-dirty" if tracked files differ.

    Args:
        folder: a folder in the repository; default: that of this package if it runs from its
            repository, else the current one.

    Returns:
        None outside a repository, or without git.
    """
    if folder is None:
        package = Path(__file__).parent
        # Installed inside another repository the package belongs to no repository.
        tracked = _git(package, "ls-files", "--error-unmatch", Path(__file__).name) is not None
        folder = package if tracked else "."
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    # Untracked files are results more often than code.
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def command() -> str:
    """Return the command line of this process as it was typed, without passwords in addresses."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = Path(sys.argv[0]).name
    if spec is not None:
        started = ["python", "-m", spec.name.removesuffix(".__main__")]
    else:
        started = ["python", sys.argv[0]] if name.endswith(".py") else [name]
    words = shlex.join([*started, *sys.argv[1:]])
    return re.sub(r"(://[^/@\s:]*):[^/@\s]+@", r"\1:***@", words)


def source_tags(typed: str, commit: str | None) -> dict[str, str | None]:
    """Return the tags from which MLflow shows a run's source and version.

    Args:
        typed: the command, from `command` or of a bundle's run.
        commit: from `git_commit`.
    """
    return {
        naming.TAG_COMMAND: typed[:_LONGEST],
        "mlflow.source.name": typed[:_LONGEST],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
    }


def _git(folder: str | os.PathLike[str], *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", os.fspath(folder), *words], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
