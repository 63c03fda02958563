"""From an installed package to a first training: the phantom, the bundle, the results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppi_med.bundle_tools.installed import copy_bundle
from ppi_med.errors import UsageError
from ppi_med.io import exclusive

_BUNDLE, _DATA = Path("bundles") / "ga_ppi", Path("data") / "ga_phantom"


def run_demo(
    folder: str | Path, settings: Mapping[str, Any], *, say: Callable[[str], object] = print
) -> int:
    """Train `ga_ppi` on the OCT phantom in a folder, which gets both if they are missing.

    Args:
        folder: gets `data/ga_phantom`, `bundles/ga_ppi`, `mlruns.db`; existing ones are used as
            they are.
        settings: values of the training's keys, such as {"max_epochs": 2}.
        say: function that gets each line for the user.

    Returns:
        The exit code of the training.

    Raises:
        UsageError: if the folder has an incomplete data set, or another demonstration runs in it.
    """
    root = Path(folder)
    with exclusive(root, "demonstration"):
        return _run(root, settings, say)


def _run(root: Path, settings: Mapping[str, Any], say: Callable[[str], object]) -> int:
    if not (root / _DATA / "datalist.json").is_file():
        _make_phantom(root / _DATA)
    if not (root / _BUNDLE / "train.json").is_file():
        (root / _BUNDLE).parent.mkdir(exist_ok=True)
        copy_bundle("ga_ppi", root / _BUNDLE)
    command = ["-m", "monai.bundle", "run", "--config_file", str(_BUNDLE / "train.json")]
    for key, value in settings.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    code = subprocess.run([sys.executable, *command], cwd=root, env=_environment()).returncode
    if code == 0:
        say("")
        say(f"The data set, the bundle and the runs are in {root.resolve()}. From there:")
        say("  ppi-med ui")
        say("shows the runs, their curves, pictures and models; its address is printed above.")
        say("The same training as a MONAI bundle:")
        say(f"  python {' '.join(command)}")
    return code


def _make_phantom(folder: Path) -> None:
    from ppi_med.phantoms.oct.spec import OctPhantomSpec
    from ppi_med.phantoms.oct.write import make_oct_phantom

    spec = OctPhantomSpec()
    report = make_oct_phantom(spec, folder, workers=os.cpu_count() or 1, progress=True)
    if report.exit_code:
        raise UsageError(f"The phantom in {folder} is incomplete: {report.table()}")


def _environment() -> dict[str, str]:
    """Switch off the libraries' telemetry, as in `make train`."""
    return {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
