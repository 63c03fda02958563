"""One run of an experiment: a bundle with some ids overridden, and its record."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppi_med.errors import MissingFileError, require_known


@dataclass(frozen=True)
class Cell:
    """One run of an experiment.

    Attributes:
        name: unique in the experiment; the name of its record.
        keys: what distinguishes it from other cells, such as method and seed.
        overrides: id -> value of the bundle's configuration.
    """

    name: str
    keys: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)


def require_methods(names: Sequence[str]) -> None:
    """Refuse names of no training method, before anything is made for them.

    Raises:
        UsageError: with the nearest one.
    """
    from ppi_med.handlers.methods import METHODS

    for name in names:
        require_known("method", name, METHODS)


def config_files(bundle: Path, overlays: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """Return `train.json` of a bundle and its overlays; names are searched in the bundle.

    Raises:
        MissingFileError: if a file does not exist.
    """
    files = [bundle / "train.json"]
    for overlay in overlays:
        inside = bundle / overlay
        files.append(inside if inside.is_file() else Path(overlay))
    for file in files:
        if not file.is_file():
            raise MissingFileError(
                f"There is no {file}: name a bundle's folder, such as bundles/ga_ppi, and "
                "overlays by their name in it."
            )
    return tuple(files)


def run_bundle(config_files: Sequence[Path], overrides: Mapping[str, Any]) -> None:
    """Run a bundle as `python -m monai.bundle run` does, without its start-up cost.

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


def run_cell(
    cell: Cell, files: Sequence[Path], work: Path, **overrides: Any
) -> tuple[Path, dict[str, Any]]:
    """Train and test a cell in a folder of its own.

    Args:
        cell: what to run.
        files: the bundle's `train.json` and overlays.
        work: folder of all runs; `WORK/CELL` is this one's, for weights and outputs.
        overrides: further ids that are not part of the cell, such as `ckpt_dir`.

    Returns:
        The folder, and the record: validation metric and epoch of the kept weights, the content of
        `test.json`, seconds, and the command that repeats the run.
    """
    folder = work / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        "bundle_root": files[0].parent.as_posix(),
        "output_dir": folder.as_posix(),
        "ckpt_dir": folder.as_posix(),
    }
    started, worked = time.monotonic(), time.process_time()
    run_bundle(files, {**cell.overrides, **places, **overrides})
    best = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return folder, {
        best["metric"]: best["value"],
        "best_epoch": best["epoch"],
        **json.loads((folder / "test.json").read_text(encoding="utf-8")),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "command": bundle_command(files, portable(cell.overrides)),
    }


def bundle_command(config_files: Sequence[Path], overrides: Mapping[str, Any]) -> str:
    """Return the shell command of a run.

    Examples:
        >>> bundle_command([Path("bundles/ga_ppi/train.json")], {"seed": 1, "method": "plain"})
        'python -m monai.bundle run --config_file bundles/ga_ppi/train.json --seed 1 --method plain'
    """
    files = [file.as_posix() for file in config_files]
    config = files[0] if len(files) == 1 else json.dumps(files).replace('"', "'")
    words = ["python", "-m", "monai.bundle", "run", "--config_file", config]
    for key, value in overrides.items():
        words += [f"--{key}", _word(value)]
    return shlex.join(words)


def portable(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides with absolute paths cut to their last part, which is valid on any machine.

    Examples:
        >>> portable({"seed": 1, "backbone_weights": "/home/me/squeezenet.pt"})
        {'seed': 1, 'backbone_weights': 'squeezenet.pt'}
    """
    return {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in overrides.items()
    }


def _word(value: Any) -> str:
    if value is None:
        return "$None"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
