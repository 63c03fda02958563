"""The sub-commands on maps: `compare-maps`, `randomise-maps` and `weak-segmentation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppi_med.cli.options import (
    BundleFolder,
    MapNames,
    Override,
    RecordsFolder,
    TableOnly,
    TablesFolder,
    Workers,
    log_to_screen,
    names,
    overrides,
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
    methods: MapNames = "",
    most: Annotated[int, typer.Option(help="Largest number of photographs; 0: all.")] = 0,
    workers: Workers = 1,
    figure: Annotated[Path | None, typer.Option(help="Draw all records into this PNG.")] = None,
    output: TablesFolder = None,
    table_only: TableOnly = False,
) -> None:
    """Compare maps on photographs: deletion, energy in box.

    And insertion. Cells that have a record are not run again; the table has all networks with
    records. Exit status 1 if a cell failed.
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
    methods: MapNames = "",
    most: Annotated[int, typer.Option(help="Photographs, the first of the folder.")] = 4,
    workers: Workers = 1,
    output: TablesFolder = None,
    table_only: TableOnly = False,
) -> None:
    """Check that maps change when a network is randomised.

    By rank correlations. Block by block from the output on, for every method, on absolute and on
    signed values. Cells that have a record are not run again. Exit status 1 if a cell failed.
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


def weak_segmentation(
    bundle: BundleFolder = Path("bundles/lidc_ppi"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Trained weights; default: the bundle's models/model.pt.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the patches or nodules; default: the phantom.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "runs/weak_segmentation"
    ),
    methods: MapNames = "all",
    crops: Annotated[str, typer.Option(help="centred, shifted or both, comma between.")] = (
        "centred,shifted"
    ),
    test_fold: Annotated[int | None, typer.Option(help="As in training.")] = None,
    fold: Annotated[int | None, typer.Option(help="As in training.")] = None,
    most: Annotated[int, typer.Option(help="Largest number of cases of each part; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the shifts and the random map.")] = 0,
    reference: Annotated[str, typer.Option(help="Reference for the choice: union or majority.")] = (
        "union"
    ),
    walk: Annotated[bool, typer.Option(help="Try a random walker on each best rule.")] = True,
    distances: Annotated[
        bool, typer.Option(help="Measure HD95, which takes most of the time.")
    ] = True,
    pictures: Annotated[int, typer.Option(help="Cases per picture; 0: no pictures.")] = 6,
    tracking_uri: Annotated[str, typer.Option(help="As in a bundle; none: no MLflow.")] = "default",
    override: Override = None,
) -> None:
    """Judge maps as segmentations: Dice, IoU, HD95.

    They are compared with the readers and with masks without a map. Thresholds are chosen on the
    validation patients and used unchanged on those of the test.
    """
    from ppi_med.experiments.table import markdown
    from ppi_med.experiments.weak_segmentation.cases import load_study_cases, require_unseen_cases
    from ppi_med.experiments.weak_segmentation.report import summary_table, write_outcomes
    from ppi_med.experiments.weak_segmentation.study import BETAS, Study, modes_of, reference_of
    from ppi_med.io import hold
    from ppi_med.segmentation.network import load_network, saliency_methods
    from ppi_med.tracking import create_tracker

    log_to_screen()
    modes, reference = modes_of(crops), reference_of(reference)
    hold(output, "weak segmentation")
    chosen = load_network(bundle, checkpoint, overrides(override))
    wanted = saliency_methods(methods, chosen.grid.size)
    folder = data if data is not None else chosen.dataset_dir
    require_unseen_cases(chosen.trained, folder, fold=fold, test_fold=test_fold)
    cases = load_study_cases(folder, fold=fold, test_fold=test_fold, most=most or None)
    study = Study(
        cases,
        chosen.grid,
        seed=seed,
        reference=reference,
        betas=BETAS if walk else (),
        distances=distances,
    )
    params = {"methods": methods, "crops": crops, "reference": reference, "test_fold": test_fold}
    tracker = create_tracker(
        tracking_uri,
        directory=output,
        experiment="weak_segmentation",
        tags={"bundle": bundle.name, "seed": seed},
        params=params,
        system_metrics=False,
        resume=False,
    )
    tracker.start()
    try:
        outcomes = study.all(chosen.network, wanted, modes, normalise=chosen.normalise)
        write_outcomes(outcomes, output, tracker, pictures=pictures)
    except BaseException:
        tracker.finish("FAILED")
        raise
    tracker.finish()
    typer.echo(markdown(summary_table(outcomes)))
    typer.echo("\n".join(filter(None, [f"tables and pictures: {output}", tracker.where()])))
