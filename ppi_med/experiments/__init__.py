"""Experiments: which cells, which measure, which rows; everything else is shared.

- `shortcut`, `methods`, `lidc_nodules`, `maps`, `randomise`, `cross_site`: one experiment each.
- `cells`: one run of an experiment. `run`: the cells without a record, in worker processes.
- `records`: records of finished cells, in a folder of JSON files; `sweep_records`: in MLflow.
- `compare`: a method's gain over plain training. `table`: Markdown, CSV, LaTeX, PNG.
- `plan`, `sweep`, `selection`, `matrix`, `sweep_tables`: sweeps over sites that MLflow keeps.

A new experiment is one file with one frozen dataclass, an `Experiment`:

1. `cells`: a `Cell` for each run: a name, the keys of its record (`method` and
   `seed` for a comparison with plain training), and the overrides of the bundle.
2. `run`: `run_cell` trains and tests a bundle and returns the first part of the
   record; add `"predictions": predictions_of(folder / "test_predictions.csv")`, and other measures.
   An experiment without a bundle returns any JSON values.
3. `tables`: `entries` gives mean, deviation and gain with the one interval
   (`ppi_med.evaluation.bootstrap.interval`); a `Table` of them.
4. If needed: `prepare` makes the data, `sources` refuses records of other data, `further`
   adds cells that depend on the first ones.

The command is `ppi_med.cli.trainings.run_and_show` of it: it continues where it stopped, prints the
tables and writes them with `--output`. `ppi_med.experiments.shortcut` is the shortest to copy. A
table of docs/results.md is one more line in docs/figures/result_tables.py.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Cell", "run_bundle", "run_cell", "bundle_command"), "cells"),
        **dict.fromkeys(("Experiment", "run_cells", "run_experiment"), "run"),
        **dict.fromkeys(("Cases", "FolderRecords", "cases_of", "predictions_of"), "records"),
        **dict.fromkeys(("Entry", "entries"), "compare"),
        **dict.fromkeys(("Table", "Value", "markdown", "write_table"), "table"),
        "Shortcut": "shortcut",
        "Methods": "methods",
        "LidcNodules": "lidc_nodules",
        "Maps": "maps",
        "Randomisation": "randomise",
        **dict.fromkeys(("Request", "start"), "cross_site"),
        "SweepPlan": "plan",
    },
)
