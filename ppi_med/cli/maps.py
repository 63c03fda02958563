"""The sub-commands `compare-maps` and `randomise-maps`: saliency methods on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppi_med.cli.options import (
    MethodNames,
    RecordsFolder,
    TableOnly,
    Workers,
    log_to_screen,
    names,
)
from ppi_med.errors import UsageError

Network = Annotated[str, typer.Option(help="A classifier's name, such as squeezenet1_1.")]
Weights = Annotated[Path | None, typer.Option(help="File with its state dict, head included.")]
Images = Annotated[Path | None, typer.Option(help="Folder of photographs with labels and boxes.")]
_NAME = "squeezenet1_1"


def compare_maps(
    network: Network = _NAME,
    weights: Weights = None,
    images: Images = None,
    records: RecordsFolder = Path("results/imagenet_sample/maps"),
    methods: MethodNames = "",
    most: Annotated[int, typer.Option(help="Photographs at most; 0: all.")] = 0,
    workers: Workers = 1,
    figure: Annotated[Path | None, typer.Option(help="Draw all records into this PNG.")] = None,
    table_only: TableOnly = False,
) -> None:
    """Compare saliency methods on photographs: deletion, insertion, energy in the box.

    Cells that have a record are not run again; the table has all networks with records. Exit
    status 1 if a cell failed.
    """
    from ppi_med.evaluation.figures import save_figure
    from ppi_med.experiments.cells import Records
    from ppi_med.experiments.map_comparison.figure import comparison_figure
    from ppi_med.experiments.map_comparison.methods import METHODS
    from ppi_med.experiments.map_comparison.plan import ComparisonPlan, run_comparison
    from ppi_med.experiments.map_comparison.table import markdown, results

    store, failed = Records(records), {}
    if not table_only:
        if weights is None or images is None:
            raise UsageError("compare-maps needs --weights and --images, or --table.")
        log_to_screen()
        chosen = names(methods) or METHODS
        plan = ComparisonPlan(network, weights, images, chosen, most=most or None)
        failed = run_comparison(plan, store, workers)
    found = results(store.done())
    typer.echo(markdown(found))
    if figure is not None and found:
        save_figure(comparison_figure(found), figure, dpi=90)
    if failed:
        raise typer.Exit(1)


def randomise_maps(
    network: Network = _NAME,
    weights: Weights = None,
    images: Images = None,
    records: RecordsFolder = Path("results/imagenet_sample/randomisation"),
    methods: MethodNames = "",
    most: Annotated[int, typer.Option(help="Photographs, the first of the folder.")] = 4,
    workers: Workers = 1,
    table_only: TableOnly = False,
) -> None:
    """Check that maps depend on the network: rank correlations while it is randomised.

    Block by block from the output on, for every method, on absolute and on signed values. Cells
    that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.cells import Records
    from ppi_med.experiments.map_comparison.methods import METHODS
    from ppi_med.experiments.map_comparison.randomisation import (
        KINDS,
        RandomisationPlan,
        run_randomisation,
    )
    from ppi_med.experiments.map_comparison.randomisation_table import markdown

    store, failed = Records(records), {}
    if not table_only:
        if weights is None or images is None:
            raise UsageError("randomise-maps needs --weights and --images, or --table.")
        log_to_screen()
        chosen = names(methods) or METHODS
        plan = RandomisationPlan(network, weights, images, chosen, most=most)
        failed = run_randomisation(plan, store, workers)
    for kind in KINDS:
        typer.echo(markdown(store.done(), kind))
    if failed:
        raise typer.Exit(1)
