"""Does a method unlearn a site's artefact? Phantom, cells and table of the experiment.

A site's artefact agrees with the label in all training and validation subjects; in the test
subjects of the same site it agrees by chance (0.5). A network that follows it is perfect in
validation and at chance in the test. Beside it stands the same data without any artefact in
training: what a method costs where there is no shortcut, and, for plain training, the ceiling.
Validation is in-site and sees the artefact, as its user's would; the test is used once, at the end.
"""

from __future__ import annotations

import csv
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ppi_med.experiments.bundles import bundle_command, run_bundle
from ppi_med.experiments.cells import Cell, Records
from ppi_med.experiments.runner import run_cells, scratch

# A site's artefact lies where it lies: training keeps the images where they are.
_AT_ITS_PLACE = {
    "augment#shift_rows": 0.0,
    "augment#shift_columns": 0.0,
    "augment#rotate_degrees": 0.0,
}
# The part of a training after which the learning rates fall.
_STEP = 0.7
TRAININGS = ("artefact", "clean")
DEFAULT_METHODS = (
    "plain",
    "random_mask",
    "random_exchange",
    "ppi_wbp_soft",
    "ppi_wbp_adaptive",
    "ppi_wbp_hard",
    "ppi_wbp_box",
    "ppi_wbp_shared",
    "ppi_wbp_shared_alternate",
    "ppi_wbp_shared_every2",
)


@dataclass(frozen=True)
class ShortcutPlan:
    """What the experiment consists of.

    Attributes:
        bundle: folder of the GA bundle.
        data: folder for the two phantoms.
        work: folder for checkpoints and outputs of the runs.
        methods: names of :data:`ppi_med.handlers.methods.METHODS`.
        seeds: of the runs.
        subjects: of the phantom.
        phantom_seed: of the phantom; methods were developed on another.
        max_epochs: of each run.
        trainings: ``artefact``, ``clean`` or both.
    """

    bundle: Path
    data: Path
    work: Path
    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    subjects: int = 240
    phantom_seed: int = 2028
    max_epochs: int = 60
    trainings: tuple[str, ...] = TRAININGS

    def cells(self) -> list[Cell]:
        """Return the cells, seed by seed, so that an early stop leaves whole tables."""
        return [
            self._cell(training, method, seed)
            for seed in self.seeds
            for training in self.trainings
            for method in self.methods
        ]

    def _cell(self, training: str, method: str, seed: int) -> Cell:
        overrides = {
            "dataset_dir": (self.data / training).as_posix(),
            "method": method,
            "seed": seed,
            "max_epochs": self.max_epochs,
            "lr_step": round(_STEP * self.max_epochs),
            "patience": self.max_epochs,
            "tracking_uri": "none",  # MONAI's command line passes no null on
            **_AT_ITS_PLACE,
            # The last epoch's network, for every method: in-site validation is perfect on the
            # artefact, so that to choose an epoch by it would be to choose the artefact.
            "validate#handlers#0#start_epoch": self.max_epochs,
        }
        keys = {"training": training, "method": method, "seed": seed}
        return Cell(f"{training}-{method}-seed{seed}", keys, overrides)

    def make_data(self, workers: int) -> None:
        """Make the two phantoms, or complete them."""
        from ppi_med.phantoms.oct.sites import SITES
        from ppi_med.phantoms.oct.spec import OctPhantomSpec
        from ppi_med.phantoms.oct.write import make_oct_phantom

        for training in self.trainings:
            spec = OctPhantomSpec(
                sites=SITES[:1],
                subjects=self.subjects,
                agreement=1.0 if training == "artefact" else None,
                test_agreement=0.5,
                seed=self.phantom_seed,
                fractions=(0.5, 0.15, 0.35),
            )
            make_oct_phantom(spec, self.data / training, workers=workers)


def run_shortcut(plan: ShortcutPlan, records: Records, workers: int = 1) -> dict[str, str]:
    """Run what is missing of the experiment.

    Returns:
        Cell name -> reason, of the cells that failed.
    """
    if records.missing(plan.cells()):
        plan.make_data(workers)
    run = partial(_run_cell, bundle=plan.bundle, work=plan.work)
    return run_cells(plan.cells(), records, run, workers=workers)


def _run_cell(cell: Cell, bundle: Path, work: Path) -> dict[str, Any]:
    folder = scratch(work, cell)
    paths = {"output_dir": folder.as_posix(), "ckpt_dir": folder.as_posix()}
    config = [bundle / "train.json"]
    overrides = {**cell.overrides, **paths, "bundle_root": bundle.as_posix()}
    started = time.monotonic()
    run_bundle(config, overrides)
    best = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    test = json.loads((folder / "test.json").read_text(encoding="utf-8"))
    return {
        "val/auc": best["value"],
        "best_epoch": best["epoch"],
        **test,
        "seconds": round(time.monotonic() - started, 1),
        "command": bundle_command(config, cell.overrides),
        "predictions": _predictions(folder / "test_predictions.csv"),
    }


def _predictions(path: Path) -> dict[str, list[Any]]:
    """Return the test predictions by column, short enough to be kept with the record."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["volume_id"])
    return {
        "volume_id": [row["volume_id"] for row in rows],
        "subject": [row["subject"] for row in rows],
        "label": [int(row["label"]) for row in rows],
        "score": [round(float(row["score"]), 6) for row in rows],
    }
