"""Run a bundle's configuration in this process, and say the command that does the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_bundle(config_files: Sequence[Path], overrides: Mapping[str, Any]) -> None:
    """Run a bundle as ``python -m monai.bundle run`` does, without its start-up cost.

    Args:
        config_files: the configuration and its overlays, later ones winning.
        overrides: id -> value.
    """
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        config_file=[str(file) for file in config_files],
        logging_file=False,
        workflow_type="train",
        **dict(overrides),
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def bundle_command(config_files: Sequence[Path], overrides: Mapping[str, Any]) -> str:
    """Return the shell command of a run.

    Example:
        >>> bundle_command([Path("bundles/ga_ppi/train.json")], {"seed": 1, "method": "plain"})
        'python -m monai.bundle run --config_file bundles/ga_ppi/train.json --seed 1 --method plain'
    """
    files = [file.as_posix() for file in config_files]
    config = files[0] if len(files) == 1 else json.dumps(files).replace('"', "'")
    words = ["python", "-m", "monai.bundle", "run", "--config_file", config]
    for key, value in overrides.items():
        words += [f"--{key}", _word(value)]
    return shlex.join(words)


def _word(value: Any) -> str:
    if value is None:
        return "$None"
    return value if isinstance(value, str) else json.dumps(value)
