"""The sub-commands `check` and `pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppi_med.cli.options import Override, overrides

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")]


def check(
    bundle: BundleFolder,
    overlay: Annotated[
        list[Path] | None,
        typer.Option(help="Also check train.json with this file merged over it; repeatable."),
    ] = None,
    override: Override = None,
) -> None:
    """Resolve every id of a bundle's configurations and name the keys that fail.

    Components are built and expressions evaluated, as in a run, but nothing is trained.
    """
    from ppi_med.bundle_tools.check import check_bundle
    from ppi_med.bundle_tools.layout import open_bundle

    reports = check_bundle(open_bundle(bundle), overlay or [], overrides(override))
    for report in reports:
        state = f"{len(report.failures)} failed" if report.failures else "all resolve"
        typer.echo(f"{report.title}: {report.resolved} ids, {state}")
        for failure in report.failures:
            typer.echo(f"  {failure.key}: {failure.reason}")
    if any(report.failures for report in reports):
        raise typer.Exit(1)


def pack(
    bundle: BundleFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The zip; NAME_vVERSION.zip by default.")
    ] = None,
    models: Annotated[bool, typer.Option(help="Pack the weights in models/ too.")] = True,
) -> None:
    """Write a bundle as a zip in the layout of MONAI's model zoo."""
    from ppi_med.bundle_tools.layout import open_bundle
    from ppi_med.bundle_tools.pack import pack_bundle

    packed = pack_bundle(open_bundle(bundle), output, models)
    for member in packed.members:
        typer.echo(f"  {member}")
    typer.echo(f"{packed.path}: {len(packed.members)} files")
