"""The sub-commands `compare-maps` and `randomise-maps`: saliency methods on photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppi_med.cli.options import (
    MethodNames,
    RecordsFolder,
    TableOnly,
    TablesFolder,
    Workers,
    names,
)
from ppi_med.cli.trainings import run_and_show
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
    most: Annotated[int, typer.Option(help="Largest number of photographs; 0: all.")] = 0,
    workers: Workers = 1,
    figure: Annotated[Path | None, typer.Option(help="Draw all records into this PNG.")] = None,
    output: TablesFolder = None,
    table_only: TableOnly = False,
) -> None:
    """Compare saliency methods on photographs: deletion, insertion, energy in the box.

    Cells that have a record are not run again; the table has all networks with records. Exit
    status 1 if a cell failed.
    """
    from ppi_med.evaluation.figures import save_figure
    from ppi_med.experiments.figures import comparison_figure
    from ppi_med.experiments.map_inputs import METHODS
    from ppi_med.experiments.maps import Maps, results
    from ppi_med.experiments.records import FolderRecords

    weights, images = _needed("compare-maps", weights, images, table_only)
    chosen = names(methods) or METHODS
    experiment = Maps(network, weights, images, chosen, most=most or None)
    try:
        run_and_show(experiment, records, workers, output, table_only)
    finally:
        found = results(FolderRecords(records).done()) if figure is not None else []
        if figure is not None and found:
            save_figure(comparison_figure(found), figure, dpi=90)


def randomise_maps(
    network: Network = _NAME,
    weights: Weights = None,
    images: Images = None,
    records: RecordsFolder = Path("results/imagenet_sample/randomisation"),
    methods: MethodNames = "",
    most: Annotated[int, typer.Option(help="Photographs, the first of the folder.")] = 4,
    workers: Workers = 1,
    output: TablesFolder = None,
    table_only: TableOnly = False,
) -> None:
    """Check that maps depend on the network: rank correlations while it is randomised.

    Block by block from the output on, for every method, on absolute and on signed values. Cells
    that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.map_inputs import METHODS
    from ppi_med.experiments.randomise import Randomisation

    weights, images = _needed("randomise-maps", weights, images, table_only)
    experiment = Randomisation(network, weights, images, names(methods) or METHODS, most=most)
    run_and_show(experiment, records, workers, output, table_only)


def _needed(
    command: str, weights: Path | None, images: Path | None, table_only: bool
) -> tuple[Path, Path]:
    if not table_only and (weights is None or images is None):
        raise UsageError(f"{command} needs --weights and --images, or --table.")
    return weights or Path(), images or Path()
