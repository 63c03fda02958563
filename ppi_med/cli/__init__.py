"""The command `ppi-med`: one thin function per sub-command.

A function reads its options, imports what does the work (inside, so that `--help` stays fast),
calls it and prints. A `UsageError` or `UnreachableError` is printed as one line; anything else is a
fault of the program and shows its traceback.

- `audit`: does a data set hold a shortcut, and where.
- `bundles`: list, copy, check and pack bundles; the demonstration.
- `data`: phantoms, conversion, index and export of data sets.
- `trainings`: tables of trainings by method, cell by cell.
- `sweeps`: trainings across sites and folds, from MLflow.
- `maps`: saliency methods on photographs, and maps as masks.
- `options`: options that several of them share.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ppi_med import __version__
from ppi_med.cli.audit import audit
from ppi_med.cli.bundles import bundles, check, copy, demo, pack
from ppi_med.cli.data import (
    FORWARD,
    convert_oct,
    convert_photos,
    export_dicom,
    extract_lidc,
    index_dicom,
    phantom,
)
from ppi_med.cli.maps import compare_maps, randomise_maps, weak_segmentation
from ppi_med.cli.sweeps import cross_site, cross_validate, tables, ui
from ppi_med.cli.trainings import compare_methods, device_shortcut, lidc_benchmark, shortcut
from ppi_med.errors import SYSTEM_ERRORS, UnreachableError, UsageError, plain_words

app = typer.Typer(
    name="ppi-med",
    help="Tools around bundles that train with Proactive Pseudo-Intervention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _command in (
    *(demo, bundles, copy, check, pack),
    audit,
    *(cross_site, cross_validate, tables, ui),
    *(shortcut, device_shortcut, compare_methods, lidc_benchmark),
    *(weak_segmentation, compare_maps, randomise_maps),
    convert_photos,
):
    app.command()(_command)
for _forwarding in (convert_oct, index_dicom, extract_lidc, export_dicom):
    app.command(context_settings=FORWARD)(_forwarding)
app.add_typer(phantom, name="make-phantom")


def main() -> None:
    """Run the command line; see `run`."""
    run(app, "ppi-med")


def run(commands: typer.Typer, name: str) -> None:
    """Run a command line; an error that the user or the machine's owner can correct is one line.

    The exit status is 0, 1 (a failure) or 2 (wrong usage, or the system refused).

    Args:
        commands: commands of the command line.
        name: prefix of the line.
    """
    try:
        commands()
    except UnreachableError as error:
        typer.echo(f"{name}: {error}", err=True)
        sys.exit(1)
    except (UsageError, *SYSTEM_ERRORS) as error:
        typer.echo(f"{name}: {plain_words(error)}", err=True)
        sys.exit(2)


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
    """Options common to all sub-commands."""
