"""The sub-command `lidc-benchmark`; thin, like `ppi_med.cli`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer


def lidc_benchmark(
    data: Annotated[
        Path, typer.Option(help="Folder of the nodules: arrays with a table, or patches.")
    ] = Path("data/lidc_nodules"),
    records: Annotated[Path, typer.Option(help="Folder of the finished cells' records.")] = Path(
        "results/lidc_nodules"
    ),
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("bundles/lidc_ppi"),
    work: Annotated[Path, typer.Option(help="Folder for the runs' weights and outputs.")] = Path(
        "runs/lidc_nodules"
    ),
    methods: Annotated[str, typer.Option(help="Methods, commas between; default: all.")] = "",
    folds: Annotated[str, typer.Option(help="Folds to test on, commas between.")] = "0,1,2,3,4",
    seeds: Annotated[
        str, typer.Option(help="The first for all, the others for plain and the best PPI.")
    ] = "0,1,2",
    max_epochs: Annotated[int, typer.Option(help="Epochs of a run; 0: the bundle's.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    dice: Annotated[
        bool, typer.Option(help="Measure how well the maps segment, after each run.")
    ] = True,
    table_only: Annotated[
        bool, typer.Option("--table", help="Print the table of what is recorded; run nothing.")
    ] = False,
) -> None:
    """Table all methods on LIDC's nodules, five folds of patients (a few hours on two cores).

    Cells that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.cells import Records
    from ppi_med.experiments.lidc_benchmark import ENTRIES, LidcPlan, run_lidc_benchmark
    from ppi_med.experiments.lidc_benchmark_table import markdown, rows

    store = Records(records)
    failed: dict[str, str] = {}
    if not table_only:
        from ppi_med.segmentation.benchmark import run_figures

        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
        )
        plan = LidcPlan(
            bundle=bundle,
            data=data,
            work=work,
            entries=tuple(methods.split(",")) if methods else tuple(ENTRIES),
            folds=tuple(int(fold) for fold in folds.split(",")),
            seeds=tuple(int(seed) for seed in seeds.split(",")),
            max_epochs=max_epochs or None,
        )
        failed = run_lidc_benchmark(plan, store, workers, run_figures if dice else None)
    typer.echo(markdown(rows(store.done())))
    if failed:
        raise typer.Exit(1)
