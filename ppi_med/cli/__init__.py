"""The command `ppi-med`: one thin function a sub-command.

A function reads its options, imports what does the work (inside, so that `--help` stays fast),
calls it and prints. A `UsageError` or `UnreachableError` is printed as one line; anything else is a
fault of the program and shows its traceback.

- `bundles`: check and pack a bundle.
- `data`: data sets in and out.
- `trainings`: tables of trainings by method, cell by cell.
- `sweeps`: trainings across sites and folds, from MLflow.
- `maps`, `segmentation`: saliency methods on photographs, and maps as masks.
- `options`: what several of them read alike.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ppi_med import __version__
from ppi_med.cli.bundles import check, pack
from ppi_med.cli.data import FORWARD, export_dicom
from ppi_med.cli.maps import compare_maps, randomise_maps
from ppi_med.cli.segmentation import weak_segmentation
from ppi_med.cli.sweeps import cross_site, cross_validate, tables
from ppi_med.cli.trainings import compare_methods, lidc_benchmark, shortcut
from ppi_med.errors import UnreachableError, UsageError

app = typer.Typer(
    name="ppi-med",
    help="Tools around bundles that train with Proactive Pseudo-Intervention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _command in (
    *(check, pack),
    *(cross_site, cross_validate, tables),
    *(shortcut, compare_methods, lidc_benchmark),
    *(weak_segmentation, compare_maps, randomise_maps),
):
    app.command()(_command)
app.command(context_settings=FORWARD)(export_dicom)


def main() -> None:
    """Run the command line; the exit status is 0, 1 (it failed) or 2 (it was called wrongly)."""
    try:
        app()
    except (UsageError, UnreachableError) as error:
        typer.echo(f"ppi-med: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ppi-med {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hold what stands before the sub-command."""
