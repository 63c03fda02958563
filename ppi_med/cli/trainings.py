"""The sub-commands `shortcut`, `compare-methods` and `lidc-benchmark`: tables cell by cell.

Each runs the cells that have no record yet and prints the table of all records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from ppi_med.cli.options import (
    MethodNames,
    Overlay,
    Override,
    RecordsFolder,
    Seeds,
    TableOnly,
    Workers,
    log_to_screen,
    names,
    numbers,
    overrides,
)


def shortcut(
    records: RecordsFolder = Path("results/ga_shortcut"),
    bundle: Annotated[Path, typer.Option(help="The GA bundle's folder.")] = Path("bundles/ga_ppi"),
    data: Annotated[Path, typer.Option(help="Folder for the phantoms.")] = Path("data/ga_shortcut"),
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs/ga_shortcut"),
    methods: MethodNames = "",
    seeds: Seeds = "0,1,2",
    workers: Workers = 2,
    table_only: TableOnly = False,
) -> None:
    """Table how far each method unlearns a site's artefact (GA phantom, about an hour).

    Cells that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.cells import Records, in_order
    from ppi_med.experiments.shortcut import DEFAULT_METHODS, ShortcutPlan, run_shortcut
    from ppi_med.experiments.shortcut_table import markdown, rows

    store = Records(records)
    plan = ShortcutPlan(
        bundle=bundle,
        data=data,
        work=work,
        methods=names(methods) or DEFAULT_METHODS,
        seeds=numbers(seeds, "--seeds"),
    )
    failed = {} if table_only else _run(lambda: run_shortcut(plan, store, workers))
    typer.echo(markdown(rows(in_order(store.done(), DEFAULT_METHODS))))
    _leave(failed)


def compare_methods(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    data: Annotated[
        Path | None, typer.Option(help="Converted data set; default: the bundle's own.")
    ] = None,
    overlay: Overlay = None,
    override: Override = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, commas between; default: the paper's six, random_context and "
            "ppi_wbp_context."
        ),
    ] = "",
    seeds: Seeds = "0,1,2",
    records: Annotated[
        Path | None, typer.Option(help="Folder of the records; default results/BUNDLE.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints; default runs/BUNDLE.")
    ] = None,
    workers: Workers = 2,
    table_only: TableOnly = False,
) -> None:
    """Train a bundle plainly and with PPI by every map; print the paper's Table 2 / 4 (and 7).

    Cells that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.cells import Records, in_order
    from ppi_med.experiments.method_comparison import (
        DEFAULT_METHODS,
        ComparisonPlan,
        run_comparison,
    )
    from ppi_med.experiments.method_comparison_table import entries, markdown

    store = Records(records or Path("results") / bundle.name)
    plan = ComparisonPlan(
        bundle=bundle,
        work=work or Path("runs") / bundle.name,
        data=data,
        methods=names(methods) or DEFAULT_METHODS,
        seeds=numbers(seeds, "--seeds"),
        overlays=tuple(overlay or ()),
        overrides=overrides(override),
    )
    failed = {} if table_only else _run(lambda: run_comparison(plan, store, workers))
    typer.echo(markdown(entries(in_order(store.done(), DEFAULT_METHODS))))
    _leave(failed)


def lidc_benchmark(
    data: Annotated[
        Path, typer.Option(help="Folder of the nodules: arrays with a table, or patches.")
    ] = Path("data/lidc_nodules"),
    records: RecordsFolder = Path("results/lidc_nodules"),
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("bundles/lidc_ppi"),
    work: Annotated[Path, typer.Option(help="Folder for the runs' weights and outputs.")] = Path(
        "runs/lidc_nodules"
    ),
    methods: MethodNames = "",
    folds: Annotated[str, typer.Option(help="Folds to test on, commas between.")] = "0,1,2,3,4",
    seeds: Annotated[
        str, typer.Option(help="The first for all, the others for plain and the best PPI.")
    ] = "0,1,2",
    max_epochs: Annotated[int, typer.Option(help="Epochs of a run; 0: the bundle's.")] = 0,
    workers: Workers = 2,
    dice: Annotated[
        bool, typer.Option(help="Measure how well the maps segment, after each run.")
    ] = True,
    table_only: TableOnly = False,
) -> None:
    """Table all methods on LIDC's nodules, five folds of patients (a few hours on two cores).

    Cells that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.cells import Records
    from ppi_med.experiments.lidc_benchmark import ENTRIES, LidcPlan, run_lidc_benchmark
    from ppi_med.experiments.lidc_benchmark_masks import mask_tables
    from ppi_med.experiments.lidc_benchmark_table import markdown, rows
    from ppi_med.segmentation import run_dice

    store = Records(records)
    plan = LidcPlan(
        bundle=bundle,
        data=data,
        work=work,
        entries=names(methods) or tuple(ENTRIES),
        folds=numbers(folds, "--folds"),
        seeds=numbers(seeds, "--seeds"),
        max_epochs=max_epochs or None,
    )
    measure = run_dice if dice else None
    failed = {} if table_only else _run(lambda: run_lidc_benchmark(plan, store, workers, measure))
    typer.echo(markdown(rows(store.done())))
    for table in mask_tables(store.done()):
        typer.echo(table.markdown())
    _leave(failed)


def _run(cells: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
    log_to_screen()
    return cells()


def _leave(failed: Mapping[str, str]) -> None:
    if failed:
        raise typer.Exit(1)
