"""The sub-command `weak-segmentation`: maps as masks, beside the readers' outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppi_med.cli.options import Override, log_to_screen, overrides


def weak_segmentation(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("bundles/lidc_ppi"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Trained weights; default: the bundle's models/model.pt.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the patches or nodules; default: the phantom.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "runs/weak_segmentation"
    ),
    methods: Annotated[str, typer.Option(help="Saliency methods, commas between.")] = "all",
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
    """Judge maps as segmentations: Dice, IoU, HD95, compared with the readers and with no map.

    Thresholds are chosen on the validation patients and used unchanged on those of the test.
    """
    from ppi_med.experiments.table import markdown
    from ppi_med.experiments.weak_segmentation.cases import load_study_cases, require_unseen_cases
    from ppi_med.experiments.weak_segmentation.report import summary_table, write_outcomes
    from ppi_med.experiments.weak_segmentation.study import BETAS, Study, modes_of, reference_of
    from ppi_med.segmentation.network import load_network, saliency_methods
    from ppi_med.tracking import create_tracker

    log_to_screen()
    modes, reference = modes_of(crops), reference_of(reference)
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
