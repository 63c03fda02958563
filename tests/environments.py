"""Environments of their own that borrow the libraries of the running one."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
# MLflow leaves its address in the environment of whatever runs after it in the same process.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MLFLOW_TRACKING_URI")


def run(*words: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    result = subprocess.run(
        [str(word) for word in words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0 or not check, result.stdout[-2000:] + result.stderr[-2000:]
    return result


def make_environment(folder: Path) -> Path:
    """Make an environment without pip; return its Python, still without any library."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    return folder / "bin" / "python"


def borrow_libraries(python: Path) -> None:
    """Let it import the libraries of this environment, without a second installation of torch.

    What a file .pth of theirs says, such as where an editable ppi_med is, does not count there.
    """
    own = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=python.parent
    )
    pth = Path(own.stdout.strip()) / "libraries.pth"
    pth.write_text(sysconfig.get_path("purelib") + "\n")
