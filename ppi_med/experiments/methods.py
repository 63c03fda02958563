"""One bundle, many training methods, some seeds: Tables 2, 4 and 7."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppi_med.errors import MissingFileError
from ppi_med.experiments.cells import Cell, config_files, require_methods, run_cell
from ppi_med.experiments.compare import PLAIN, Entry, entries
from ppi_med.experiments.records import Record, in_order, predictions_of
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table, number, ranged
from ppi_med.naming import TEST_ACCURACY, TEST_AUC

# The rows of the paper's Tables 2 and 4, in their order.
DEFAULT_METHODS = (
    *(PLAIN, "ppi_gradient", "ppi_lrp", "ppi_gradcam", "ppi_wbp", "ppi_wbp_box"),
    *("random_context", "ppi_wbp_context"),
)
_ENERGIES = ("test/energy_top", "test/energy_all")


@dataclass(frozen=True)
class Methods(Experiment):
    """The comparison.

    Attributes:
        bundle: folder of a bundle whose `train.json` has the keys method, seed, dataset_dir,
            output_dir and ckpt_dir, and which writes `test.json` and `test_predictions.csv`.
        work: folder for checkpoints and outputs of the runs.
        data: data set; None: the bundle's own.
        methods: names of `ppi_med.handlers.methods.METHODS`.
        seeds: seeds of the runs.
        overlays: configurations over `train.json`, by name in the bundle or by path.
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
        """Return the cells, seed by seed, so that an early stop leaves complete tables.

        Raises:
            UsageError: for a method that does not exist.
        """
        require_methods(self.methods)
        return [self._cell(method, seed) for seed in self.seeds for method in self.methods]

    def _cell(self, method: str, seed: int) -> Cell:
        overrides: dict[str, Any] = {**self.overrides, "method": method, "seed": seed}
        if self.data is not None:
            overrides["dataset_dir"] = self.data.as_posix()
        overrides["tracking_uri"] = "none"  # MONAI's command line cannot pass null
        return Cell(f"{method}-seed{seed}", {"method": method, "seed": seed}, overrides)

    def sources(self, records: Sequence[Record]) -> dict[str, dict[str, Any]]:
        """Return the settings that all records of a table must have in common."""
        settings = self.settings()
        return {str(record["cell"]): {"settings": settings} for record in records}

    def settings(self) -> dict[str, Any]:
        """Return what all cells have in common, as JSON values.

        Raises:
            MissingFileError: if a configuration or the data set is not there.
        """
        config_files(self.bundle, self.overlays)
        weightless = {key: v for key, v in self.overrides.items() if "weights" not in key}
        common = {
            "bundle": self.bundle.name,
            "overlays": [Path(name).name for name in self.overlays],
            "overrides": weightless,
            "data": self._data_name(),
        }
        return dict(json.loads(json.dumps(common)))

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and test a cell."""
        folder, record = run_cell(cell, config_files(self.bundle, self.overlays), self.work)
        cases = predictions_of(folder / "test_predictions.csv")
        return {**record, "settings": self.settings(), "predictions": cases}

    def _data_name(self) -> str:
        """Return a hash of a data set's content: a folder's name is valid on one machine only."""
        from ppi_med.data.photos.convert import DATALIST, photos_hash

        data = self.data if self.data is not None else self._own_data()
        found = photos_hash(data / DATALIST)
        if found is None:
            raise MissingFileError(
                f"There is no {DATALIST} in {data}: make or convert the data set first, or name "
                "its folder with --data."
            )
        return found[:16]

    def _own_data(self) -> Path:
        """Return the folder that the bundle reads by default."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config([str(file) for file in config_files(self.bundle, self.overlays)])
        parser.update({**self.overrides, "bundle_root": self.bundle.as_posix()})
        return Path(str(parser.get_parsed_content("dataset_dir")))

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 2000) -> list[Table]:
        """Return one table per measure, one line per method."""
        records = in_order(records, DEFAULT_METHODS)
        return [
            _table(measure, entries(records, measure, repeats)) for measure in measures_of(records)
        ]


def measures_of(records: Sequence[Record]) -> list[str]:
    """Return the measures that all records have, to compare with plain training.

    Accuracy (of each site, if there are several), or AUC; then the energies in the box.
    """
    common = set.intersection(*(set(record) for record in records)) if records else set()
    by_site = sorted((n for n in common if n.startswith(f"{TEST_ACCURACY}/")), reverse=True)
    answers = by_site or [name for name in (TEST_ACCURACY, TEST_AUC) if name in common]
    return [*answers, *(name for name in _ENERGIES if name in common)]


def _table(measure: str, found: Sequence[Entry]) -> Table:
    columns = (measure, "mean ± SD over seeds", "gain over plain", "p (cases, seeds)")
    rows: list[Row] = [
        (
            entry.method,
            entry.shown(4),
            ranged(entry.gain, "+", 4),
            "" if entry.gain is None else number(entry.gain.p_value, digits=4),
            number(entry.p_seeds),
        )
        for entry in found
    ]
    name = f"methods_{measure.replace('/', '_')}"
    return Table(name, f"{measure} by method", (*columns, "p (t over seeds)"), tuple(rows))
