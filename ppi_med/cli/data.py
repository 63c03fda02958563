"""Sub-commands that read and write data sets; the work is done in `ppi_med.data` and `export`."""

from __future__ import annotations

import typer

# Options and help are those of the command itself.
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def export_dicom(context: typer.Context) -> None:
    """Write map and mask of a CT series as DICOM SEG, parametric map, pictures and NIfTI."""
    from ppi_med.export.command import main

    raise typer.Exit(main(context.args, "ppi-med export-dicom"))
