"""One bundle, many training methods, some seeds: the cells behind Tables 2, 4 and 7."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.experiments.bundles import bundle_command, run_bundle
from ppi_med.experiments.cells import Cell, Records
from ppi_med.experiments.runner import run_cells, scratch

PLAIN = "plain"
# The rows of the paper's Tables 2 and 4, in their order.
DEFAULT_METHODS = (
    *(PLAIN, "ppi_gradient", "ppi_lrp", "ppi_gradcam", "ppi_wbp", "ppi_wbp_box"),
    *("random_context", "ppi_wbp_context"),
)


@dataclass(frozen=True)
class ComparisonPlan:
    """What the comparison consists of.

    Attributes:
        bundle: folder of a bundle whose ``train.json`` has the keys method, seed, dataset_dir,
            output_dir and ckpt_dir, and which writes ``test.json`` and ``test_predictions.csv``.
        work: folder for checkpoints and outputs of the runs.
        data: data set; None: the bundle's own.
        methods: names of :data:`ppi_med.handlers.methods.METHODS`.
        seeds: of the runs.
        overlays: configurations over ``train.json``, by name in the bundle or by path.
        overrides: id -> value of the configuration, the same for every cell.
    """

    bundle: Path
    work: Path
    data: Path | None = None
    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    overlays: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """Return the cells, seed by seed, so that an early stop leaves whole tables.

        Raises:
            UsageError: for a method that does not exist.
        """
        from ppi_med.handlers.methods import METHODS

        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise UsageError(f"There is no method {unknown[0]!r}, expected some of {METHODS}.")
        return [self._cell(method, seed) for seed in self.seeds for method in self.methods]

    def configurations(self) -> list[Path]:
        """Return the configuration files of a run.

        Raises:
            MissingFileError: where one is not there.
        """
        files = [self.bundle / "train.json"]
        for name in self.overlays:
            inside = self.bundle / name
            files.append(inside if inside.is_file() else Path(name))
        for file in files:
            if not file.is_file():
                raise MissingFileError(f"No {file}, expected a bundle's train.json and overlays.")
        return files

    def _cell(self, method: str, seed: int) -> Cell:
        overrides: dict[str, Any] = {**self.overrides, "method": method, "seed": seed}
        if self.data is not None:
            overrides["dataset_dir"] = self.data.as_posix()
        overrides["tracking_uri"] = "none"  # MONAI's command line passes no null on
        return Cell(f"{method}-seed{seed}", {"method": method, "seed": seed}, overrides)


def run_comparison(plan: ComparisonPlan, records: Records, workers: int = 1) -> dict[str, str]:
    """Run what is missing of the comparison.

    Returns:
        Cell name -> reason, of the cells that failed.

    Raises:
        UsageError: where the records there are of other settings or other data.
    """
    cells, files = plan.cells(), plan.configurations()
    settings = settings_of(plan)
    for record in records.done():
        if record.get("settings") != settings:
            raise UsageError(
                f"{records.folder} holds {record['cell']} of other settings "
                f"({record.get('settings')}, now {settings}): give another --records folder."
            )
    run = partial(_run_cell, files=files, bundle=plan.bundle, work=plan.work, settings=settings)
    return run_cells(cells, records, run, workers=workers)


def settings_of(plan: ComparisonPlan) -> dict[str, Any]:
    """Return what all cells of a table must have in common, as JSON values."""
    common = {
        "bundle": plan.bundle.name,
        "overlays": [Path(name).name for name in plan.overlays],
        "overrides": {key: value for key, value in plan.overrides.items() if "weights" not in key},
        "data": _data_name(plan),
    }
    return dict(json.loads(json.dumps(common)))


def _data_name(plan: ComparisonPlan) -> str:
    """Return a data set's content in short: a folder's name would be of one machine only."""
    from ppi_med.data.photos.convert import DATALIST, photos_hash

    data = plan.data if plan.data is not None else _own_data(plan)
    found = photos_hash(data / DATALIST)
    if found is None:
        raise MissingFileError(
            f"There is no {DATALIST} in {data}: make or convert the data set first, or name its "
            "folder with --data."
        )
    return found[:16]


def _own_data(plan: ComparisonPlan) -> Path:
    """Return the folder that the bundle reads where none is named."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(file) for file in plan.configurations()])
    parser.update({**plan.overrides, "bundle_root": plan.bundle.as_posix()})
    return Path(str(parser.get_parsed_content("dataset_dir")))


def _run_cell(
    cell: Cell, files: list[Path], bundle: Path, work: Path, settings: Mapping[str, Any]
) -> dict[str, Any]:
    folder = scratch(work, cell)
    places = {"output_dir": folder.as_posix(), "ckpt_dir": folder.as_posix()}
    started, worked = time.monotonic(), time.process_time()
    run_bundle(files, {**cell.overrides, **places, "bundle_root": bundle.as_posix()})
    best = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    test = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    return {
        best["metric"]: best["value"],
        "best_epoch": best["epoch"],
        **test,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "settings": dict(settings),
        "command": bundle_command(files, portable(cell.overrides)),
        "cases": read_predictions(folder / "test_predictions.csv"),
    }


def portable(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides with absolute paths cut to their last part: they hold on one machine only.

    Example:
        >>> portable({"seed": 1, "backbone_weights": "/home/me/squeezenet.pt"})
        {'seed': 1, 'backbone_weights': 'squeezenet.pt'}
    """
    return {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in overrides.items()
    }


def read_predictions(path: Path) -> dict[str, list[Any]]:
    """Return the test predictions by column, short enough to be kept with the record.

    Of a classifier of K classes (a column ``predicted``) ``right`` says 0 or 1; of one with a
    single probability ``score`` is kept.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["volume_id"])
    cases: dict[str, list[Any]] = {
        "volume_id": [row["volume_id"] for row in rows],
        "group": [row.get("subject") or row["volume_id"] for row in rows],
        "site": [row.get("site", "") for row in rows],
    }
    if rows and "predicted" in rows[0]:
        cases["right"] = [int(row["label"] == row["predicted"]) for row in rows]
    else:
        cases["label"] = [int(row["label"]) for row in rows]
        cases["score"] = [round(float(row["score"]), 6) for row in rows]
    for name in ("energy_top", "energy_all"):
        if rows and name in rows[0]:
            cases[name] = [round(float(row[name]), 4) if row[name] else None for row in rows]
    return cases
