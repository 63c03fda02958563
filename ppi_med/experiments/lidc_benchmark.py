"""The benchmark on LIDC's nodules: every method and network on five folds of patients.

Each patient is tested in one fold, by a network that has not seen it; of the other patients an
eighth is validation and gives the threshold. All entries train the same number of epochs and keep
the last epoch's network. After the first seed the best PPI entry is chosen, by validation alone; it
and plain training then get the further seeds.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.errors import UsageError
from ppi_med.experiments.bundles import bundle_command, run_bundle
from ppi_med.experiments.cells import Cell, Records
from ppi_med.experiments.packing import pack_predictions, pack_values
from ppi_med.experiments.runner import run_cells, scratch
from ppi_med.io import write_json
from ppi_med.naming import VAL_AUC

logger = logging.getLogger(__name__)

PLAIN = "plain"
_DENSENET = {"block_config": [4, 4, 4], "growth_rate": 12, "init_features": 24}
ENTRIES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "random_mask": {"method": "random_mask"},
    "random_exchange": {"method": "random_exchange"},
    "random_context": {"method": "random_context"},
    "ppi_wbp_soft": {"method": "ppi_wbp_soft"},
    "ppi_wbp_adaptive": {"method": "ppi_wbp_adaptive"},
    "ppi_wbp_hard": {"method": "ppi_wbp_hard"},
    "ppi_wbp_box": {"method": "ppi_wbp_box"},
    "ppi_wbp_shared": {"method": "ppi_wbp_shared"},
    "ppi_wbp_context": {"method": "ppi_wbp_context"},
    "lotenet": {"architecture": "lotenet"},
    "densenet": {"architecture": "monai:DenseNet121", "architecture_options": _DENSENET},
}
"""Keys of the bundle by entry; plain training of the small CNN but for them."""

PPI_ENTRIES = tuple(name for name in ENTRIES if name.startswith("ppi_"))

Measure = Callable[[Path, Mapping[str, Any]], Mapping[str, Mapping[str, float]]]
"""Dice of a finished run's masks by name and case; see `run_lidc_benchmark`."""


@dataclass(frozen=True)
class LidcPlan:
    """What the benchmark consists of.

    Attributes:
        bundle: folder of the bundle lidc_ppi.
        data: folder of the nodules.
        work: folder for weights and outputs of the runs, one a cell.
        entries: names of `ENTRIES`.
        folds: to test on.
        seeds: the first for all entries, the others for plain training and the best PPI.
        max_epochs: of each run; None: the bundle's.
        overrides: further ids of the bundle, for all cells.
    """

    bundle: Path
    data: Path
    work: Path
    entries: tuple[str, ...] = tuple(ENTRIES)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    max_epochs: int | None = None
    overrides: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.entries) - set(ENTRIES))
        if unknown:
            raise UsageError(f"methods has {unknown[0]!r}, expected some of: {', '.join(ENTRIES)}.")
        if not self.seeds or not self.folds:
            raise UsageError("Got no seed or no fold, expected at least one of each.")

    def first(self) -> list[Cell]:
        """Return the cells of the first seed, fold by fold."""
        return [self._cell(e, fold, self.seeds[0]) for fold in self.folds for e in self.entries]

    def further(self, records: Iterable[Mapping[str, Any]]) -> list[Cell]:
        """Return the cells of the other seeds, for plain training and the best PPI."""
        best = best_ppi(records, self.seeds[0])
        entries = [e for e in (PLAIN, best) if e in self.entries]
        return [
            self._cell(e, fold, seed)
            for seed in self.seeds[1:]
            for fold in self.folds
            for e in entries
        ]

    def _cell(self, entry: str, fold: int, seed: int) -> Cell:
        last = "@max_epochs" if self.max_epochs is None else self.max_epochs
        overrides = {
            "dataset_dir": self.data.as_posix(),
            "method": PLAIN,
            **ENTRIES[entry],
            "test_fold": fold,
            "seed": seed,
            "tracking_uri": "none",
            # With some 90 patients in validation an early peak is luck.
            "select_from": last,
            **({} if self.max_epochs is None else {"max_epochs": self.max_epochs}),
            **(self.overrides or {}),
        }
        keys = {"entry": entry, "fold": fold, "seed": seed}
        return Cell(f"{entry}-fold{fold}-seed{seed}", keys, overrides)


def best_ppi(records: Iterable[Mapping[str, Any]], seed: int) -> str | None:
    """Return the PPI entry with the highest mean validation AUC over its folds of a seed."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record["entry"] in PPI_ENTRIES and record["seed"] == seed:
            found.setdefault(str(record["entry"]), []).append(float(record[VAL_AUC]))
    return max(found, key=lambda name: float(np.mean(found[name]))) if found else None


def run_lidc_benchmark(
    plan: LidcPlan, records: Records, workers: int = 1, measure: Measure | None = None
) -> dict[str, str]:
    """Run what is missing of the benchmark.

    Args:
        plan: of the benchmark.
        records: where finished cells are kept.
        workers: processes.
        measure: called after each run with its folder and its overrides; what it returns is kept
            in the record under "masks", case by case. Picklable where there is more than one
            worker. If it fails, the record says why.

    Returns:
        Cell name -> reason, of the cells that failed.

    Raises:
        UsageError: where records are there of other data or settings.
    """
    from ppi_med.data.lidc.cases import require_cases

    require_cases(plan.data)
    records.require_same(_sources(plan, records))
    run = partial(_run_cell, bundle=plan.bundle, work=plan.work, measure=measure)
    failed = run_cells(plan.first(), records, run, workers=workers)
    return failed | run_cells(plan.further(records.done()), records, run, workers=workers)


def _sources(plan: LidcPlan, records: Records) -> dict[str, dict[str, Any]]:
    """Return what the records of each cell have to say of data, folds and command."""
    from ppi_med.data.lidc.cases import case_hashes

    hashes = {fold: case_hashes(plan.data, fold) for fold in plan.folds}
    cells = [*plan.first(), *plan.further(records.done())]
    return {
        cell.name: {**hashes[cell.keys["fold"]], "command": _command(plan.bundle, cell)}
        for cell in cells
    }


def _command(bundle: Path, cell: Cell) -> str:
    return bundle_command([bundle / "train.json"], {**cell.overrides, "dataset_dir": "DATA"})


def _run_cell(cell: Cell, bundle: Path, work: Path, measure: Measure | None) -> dict[str, Any]:
    folder = scratch(work, cell)
    paths = {"output_dir": folder.as_posix(), "ckpt_dir": (folder / "models").as_posix()}
    config = [bundle / "train.json"]
    begun = _begun(folder, config[0], cell)
    overrides = {**cell.overrides, **paths, "bundle_root": bundle.as_posix(), "resume": begun}
    started = time.monotonic()
    run_bundle(config, overrides)
    seconds = round(time.monotonic() - started, 1)
    best = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    test = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    masks, fault = _measured(measure, folder, overrides)
    predictions = pack_predictions(folder / "test_predictions.csv")
    cases = predictions["volume_id"].split()
    return {
        **{name: best["trained"][name] for name in ("architecture", "method")},
        VAL_AUC: best["value"],
        "epoch": best["epoch"],
        **test,
        # What was computed before a stop is not counted anywhere.
        **({} if begun else {"seconds": seconds}),
        "command": _command(bundle, cell),
        "data_hash": best["trained"]["data_hash"],
        "split_hash": best["trained"]["split_hash"],
        "predictions": predictions,
        "masks": {name: pack_values(values, cases) for name, values in masks.items()},
        **({"masks_failed": fault} if fault else {}),
    }


def _measured(
    measure: Measure | None, folder: Path, overrides: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, float]], str]:
    """Return the Dice of the masks, or why there is none: it must not cost the training."""
    if measure is None:
        return {}, ""
    try:
        return dict(measure(folder, overrides)), ""
    except Exception as error:  # whatever a map or a mask raises belongs into the record
        logger.exception("%s: no masks", folder)
        return {}, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _begun(folder: Path, config: Path, cell: Cell) -> bool:
    """Return whether a run with the same configuration was stopped here; note that it begins."""
    wanted = {"config": config.read_text(encoding="utf-8"), "overrides": dict(cell.overrides)}
    note = folder / "begun.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == wanted:
        return (folder / "checkpoints").is_dir()
    write_json(note, wanted)
    return False
