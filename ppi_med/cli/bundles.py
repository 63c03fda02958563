"""The sub-commands around bundles, and the demonstration."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ppi_med.cli.options import BUNDLES, Override, completing, overrides

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")]


def bundles() -> None:
    """List the bundles that come with the package."""
    from ppi_med.bundle_tools.installed import installed_bundles

    for found in installed_bundles():
        typer.echo(f"{found.name:<14} {found.version:<7} {found.title}")
    typer.echo("One to edit: ppi-med copy NAME DIR")


def copy(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the bundle; `ppi-med bundles` lists them.",
            autocompletion=completing(*BUNDLES),
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder; an existing one gets DIR/NAME.")
    ],
) -> None:
    """Write a bundle to a folder, to change and run it there."""
    from ppi_med.bundle_tools.installed import copy_bundle

    made = copy_bundle(name, folder)
    first = "extract" if (made / "extract.json").is_file() else "train"
    first = first if (made / f"{first}.json").is_file() else "evaluate"
    typer.echo(f"{made}: settings in {first}.json, explained in {made / 'docs' / 'README.md'}")
    typer.echo(f"run: python -m monai.bundle run --config_file {made / f'{first}.json'}")


def demo(
    folder: Annotated[
        Path, typer.Option("--directory", help="Folder for data, bundle and runs.")
    ] = Path("."),
    max_epochs: Annotated[
        int | None, typer.Option(help="Epochs of the training; default: the bundle's.")
    ] = None,
    override: Override = None,
) -> None:
    """Train on the phantom with PPI, as `make train` does."""
    from ppi_med.bundle_tools.installed import run_demo

    given = {} if max_epochs is None else {"max_epochs": max_epochs}
    raise typer.Exit(run_demo(folder, given | overrides(override), say=typer.echo))


def check(
    bundle: BundleFolder,
    overlay: Annotated[
        list[Path] | None,
        typer.Option(help="Also check train.json with this file merged over it; repeatable."),
    ] = None,
    override: Override = None,
) -> None:
    """Resolve every id of a bundle; name those that fail.

    Those of all its configurations. Components are built and expressions evaluated, as in a run,
    but nothing is trained.
    """
    from ppi_med.bundle_tools.check import check_bundle
    from ppi_med.bundle_tools.installed import open_bundle

    reports = check_bundle(
        open_bundle(bundle), overlay or [], overrides(override), partial(typer.echo, err=True)
    )
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
    """Zip a bundle in the layout of MONAI's model zoo."""
    from ppi_med.bundle_tools.installed import open_bundle
    from ppi_med.bundle_tools.pack import pack_bundle

    packed = pack_bundle(open_bundle(bundle), output, models)
    for member in packed.members:
        typer.echo(f"  {member}")
    if packed.of_phantom:
        typer.echo("models/model.pt: trained on the phantom, not on patients")
    typer.echo(f"{packed.path}: {len(packed.members)} files")
