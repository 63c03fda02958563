"""The sub-command `audit`: what would a network learn from these data that it should not?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def audit(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="A folder that a converter wrote, a MONAI datalist, a CSV of image, label, "
            "patient and site, or a public data set's folder."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the page and its numbers.")
    ],
    label: Annotated[
        str, typer.Option(help="Column of the label in a CSV; a finding for NIH's table.")
    ] = "",
    bundle: Annotated[
        Path | None, typer.Option(help="A bundle whose network gets the short training.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of that network, examined as it is.")
    ] = None,
    data_only: Annotated[
        bool, typer.Option("--data-only", help="No network: seconds instead of minutes.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the parts and of the short training.")] = 0,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow's address, to record the audit; or 'default'.")
    ] = None,
) -> None:
    """Look for a shortcut: what it is, where, what to do.

    The last line is the recommended training. Exit status 1 if an image could not be read.
    """
    from ppi_med.audit.run import audit as run
    from ppi_med.audit.write import report_lines

    start = time.monotonic()

    def progress(text: str) -> None:
        typer.echo(f"{time.monotonic() - start:5.0f} s  {text}", err=True)

    found = run(
        dataset,
        output,
        label=label,
        bundle=bundle,
        checkpoint=checkpoint,
        data_only=data_only,
        seed=seed,
        tracking_uri=tracking_uri,
        progress=progress,
    )
    for line in report_lines(found, found.files):
        typer.echo(line)
    if found.unreadable:
        raise typer.Exit(1)
