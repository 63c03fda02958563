"""The sub-commands `shortcut`, `compare-methods` and `lidc-benchmark`: tables cell by cell.

Each runs the cells without a record and prints the table of all records.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppi_med.cli.options import (
    METHODS,
    BundleFolder,
    DryRun,
    MethodNames,
    Overlay,
    Override,
    RecordsFolder,
    Seeds,
    TableOnly,
    TablesFolder,
    Workers,
    completing,
    log_to_screen,
    names,
    numbers,
    overrides,
)
from ppi_med.errors import UsageError

if TYPE_CHECKING:
    from ppi_med.experiments.run import Experiment


def shortcut(
    records: RecordsFolder = Path("results/ga_shortcut"),
    bundle: Annotated[Path, typer.Option(help="The GA bundle's folder.")] = Path("bundles/ga_ppi"),
    data: Annotated[Path, typer.Option(help="Folder for the phantoms.")] = Path("data/ga_shortcut"),
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs/ga_shortcut"),
    methods: MethodNames = "",
    seeds: Seeds = "0,1,2",
    marks: Annotated[
        str,
        typer.Option(
            help="Each of these marks alone, by agreement: some of logo,band,line,ticks, or all; "
            "retina,corner,jitter,speckle,gain,watermark, or further; "
            "border,scan_line,every_scan,some_scans,noise,compression,vignette,mirror, or later; "
            "records then default to results/ga_marks."
        ),
    ] = "",
    agreements: Annotated[
        str, typer.Option(help="With --marks: some of 1.0,0.9,0.8,0.5,none; default all.")
    ] = "",
    detect: Annotated[
        bool,
        typer.Option(
            "--detect",
            help="No training: search phantoms with 18 kinds of artefacts, and 20 without "
            "(about 20 minutes); records then default to results/detection.",
        ),
    ] = False,
    nodules: Annotated[
        Path | None,
        typer.Option(
            help="With --detect: marks painted into these real nodules (a folder with "
            "nodules.csv), 2-D; records then default to results/planted."
        ),
    ] = None,
    workers: Workers = 2,
    output: TablesFolder = None,
    table_only: TableOnly = False,
    dry_run: DryRun = False,
) -> None:
    """Table how far methods unlearn a site's artefact.

    On the GA phantom; about an hour. Cells that have a record are not run again. Exit status 1 if a
    cell failed.
    """
    from ppi_med.experiments.shortcut import (
        AGREEMENTS,
        DEFAULT_METHODS,
        FURTHER_MARKS,
        LATER_MARKS,
        MARK_METHODS,
        MARKS,
        Marks,
        Shortcut,
    )

    experiment: Experiment
    folder = records
    common: dict[str, Any] = {
        "bundle": bundle,
        "data": data,
        "work": work,
        "seeds": numbers(seeds, "--seeds"),
    }
    if nodules is not None and not detect:
        raise UsageError("--nodules goes with --detect: no training of the bundle is run on them.")
    if nodules is not None:
        from ppi_med.experiments.planted import Planted

        experiment, folder = Planted(nodules), _own_folder(records, "results/planted")
    elif detect:
        from ppi_med.experiments.detection import Detection

        experiment, folder = Detection(), _own_folder(records, "results/detection")
    elif marks:
        sets = {"all": MARKS, "further": FURTHER_MARKS, "later": LATER_MARKS}
        experiment = Marks(
            **common,
            methods=names(methods) or MARK_METHODS,
            marks=sets.get(marks, tuple(names(marks) or ())),
            agreements=tuple(names(agreements) or AGREEMENTS),
        )
        folder = _own_folder(records, "results/ga_marks")
    else:
        experiment = Shortcut(**common, methods=names(methods) or DEFAULT_METHODS)
    run_and_show(experiment, folder, workers, output, table_only, dry_run)


def _own_folder(records: Path, own: str) -> Path:
    """Return the given folder, or else the default of this kind of records."""
    return Path(own) if records == Path("results/ga_shortcut") else records


def compare_methods(
    bundle: BundleFolder,
    data: Annotated[
        Path | None, typer.Option(help="Converted data set; default: the bundle's own.")
    ] = None,
    overlay: Overlay = None,
    override: Override = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, commas between; default: the paper's six, random_context and "
            "ppi_wbp_context.",
            autocompletion=completing(*METHODS),
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
    output: TablesFolder = None,
    table_only: TableOnly = False,
    dry_run: DryRun = False,
) -> None:
    """Train plainly and with PPI by every map: a table.

    The paper's Tables 2, 4 and 7. Cells that have a record are not run again. Exit status 1 if a
    cell failed.
    """
    from ppi_med.experiments.methods import DEFAULT_METHODS, Methods

    experiment = Methods(
        bundle=bundle,
        work=work or Path("runs") / bundle.name,
        data=data,
        methods=names(methods) or DEFAULT_METHODS,
        seeds=numbers(seeds, "--seeds"),
        overlays=tuple(overlay or ()),
        overrides=overrides(override),
    )
    folder = records or Path("results") / bundle.name
    run_and_show(experiment, folder, workers, output, table_only, dry_run)


def device_shortcut(
    source: Annotated[
        Path, typer.Option(help="Folder with images.zip, images.csv and splits.json.")
    ] = Path("data/cxr_markers"),
    records: RecordsFolder = Path("results/cxr_devices"),
    bundle: BundleFolder = Path("bundles/cxr_ppi"),
    data: Annotated[Path, typer.Option(help="Folder for images and datalists.")] = Path(
        "data/cxr_devices"
    ),
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs/cxr_devices"),
    methods: MethodNames = "",
    splits: Annotated[str, typer.Option(help="Splits of the source, commas between.")] = "0,1,2",
    runs: Annotated[int, typer.Option(min=1, help="Trainings per method and split.")] = 1,
    workers: Workers = 2,
    output: TablesFolder = None,
    table_only: TableOnly = False,
    dry_run: DryRun = False,
) -> None:
    """Table how far methods look past the device.

    On chest X-rays; some minutes per split. Cells that have a record are not run again. Exit status
    1 if a cell failed.
    """
    from ppi_med.experiments.device import DEFAULT_METHODS, Devices

    experiment = Devices(
        bundle=bundle,
        source=source,
        data=data,
        work=work,
        methods=names(methods) or DEFAULT_METHODS,
        splits=numbers(splits, "--splits"),
        runs=runs,
    )
    run_and_show(experiment, records, workers, output, table_only, dry_run)


def lidc_benchmark(
    data: Annotated[
        Path, typer.Option(help="Folder of the nodules: arrays with a table, or patches.")
    ] = Path("data/lidc_nodules"),
    records: RecordsFolder = Path("results/lidc_nodules"),
    bundle: BundleFolder = Path("bundles/lidc_ppi"),
    work: Annotated[Path, typer.Option(help="Folder for the runs' weights and outputs.")] = Path(
        "runs/lidc_nodules"
    ),
    methods: MethodNames = "",
    folds: Annotated[str, typer.Option(help="Folds to test on, commas between.")] = "0,1,2,3,4",
    seeds: Annotated[
        str,
        typer.Option(help="The first is for all methods, the others for plain and the best PPI."),
    ] = "0,1,2",
    max_epochs: Annotated[int, typer.Option(help="Epochs per run; 0: the bundle's.")] = 0,
    workers: Workers = 2,
    dice: Annotated[
        bool, typer.Option(help="Measure how well the maps segment, after each run.")
    ] = True,
    output: TablesFolder = None,
    table_only: TableOnly = False,
    dry_run: DryRun = False,
) -> None:
    """Table all methods on LIDC's nodules, in five folds.

    Folds of patients; a few hours on two cores. Cells that have a record are not run again. Exit
    status 1 if a cell failed.
    """
    from ppi_med.experiments.lidc_nodules import ENTRIES, LidcNodules
    from ppi_med.experiments.weak_segmentation.report import run_dice

    experiment = LidcNodules(
        bundle=bundle,
        data=data,
        work=work,
        entries=names(methods) or tuple(ENTRIES),
        folds=numbers(folds, "--folds"),
        seeds=numbers(seeds, "--seeds"),
        max_epochs=max_epochs or None,
        dice=run_dice if dice else None,
    )
    run_and_show(experiment, records, workers, output, table_only, dry_run)


def run_and_show(
    experiment: Experiment,
    records: Path,
    workers: int,
    output: Path | None,
    table_only: bool,
    dry_run: bool = False,
) -> None:
    """Run the missing cells of an experiment, print its tables, exit with status 1 on a failure."""
    from ppi_med.experiments.records import FolderRecords
    from ppi_med.experiments.run import outlook, run_experiment
    from ppi_med.experiments.table import markdown, write_table
    from ppi_med.io import exclusive

    store, failed = FolderRecords(records), {}
    if dry_run:
        cells, taken = experiment.cells(), [r["seconds"] for r in store.done() if "seconds" in r]
        typer.echo(outlook(cells, store.missing(cells), taken, workers))
        return
    if not table_only:
        log_to_screen()
        failed = run_experiment(experiment, store, workers)
    tables = experiment.tables(store.done())
    for table in tables:
        typer.echo(markdown(table))
    if output is not None:
        with exclusive(output, "table"):
            for table in tables:
                write_table(table, output)
    typer.echo(f"records: {records}" + ("" if output is None else f"; tables: {output}"))
    if failed:
        raise typer.Exit(1)
