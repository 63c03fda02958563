"""The command `ppi-med`: one thin function a sub-command.

A function reads its options, imports what does the work (inside, so that `--help` stays fast),
calls it and prints. Errors of the class `UsageError` are printed as one line; anything else is a
fault of the program and shows its traceback.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ppi_med import __version__
from ppi_med.cli_lidc import lidc_benchmark
from ppi_med.cli_maps import compare_maps, randomise_maps
from ppi_med.cli_segmentation import weak_segmentation
from ppi_med.cli_sweeps import add_commands
from ppi_med.errors import UsageError

app = typer.Typer(
    name="ppi-med",
    help="Tools around bundles that train with Proactive Pseudo-Intervention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

add_commands(app)

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")]


def main() -> None:
    """Run the command line; the exit status is 0, 1 (it failed) or 2 (it was called wrongly)."""
    try:
        app()
    except UsageError as error:
        typer.echo(f"ppi-med: {error}", err=True)
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
    """Hold what stands before the sub-command."""


@app.command()
def check(
    bundle: BundleFolder,
    overlay: Annotated[
        list[Path] | None,
        typer.Option(help="Also check train.json with this file merged over it; repeatable."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="ID=VALUE", help="Override an id (JSON or text); repeatable."
        ),
    ] = None,
) -> None:
    """Resolve every id of a bundle's configurations and name the keys that fail.

    Components are built and expressions evaluated, as in a run, but nothing is trained.
    """
    from ppi_med.bundle_tools.check import check_bundle
    from ppi_med.bundle_tools.layout import open_bundle

    overrides = dict(_parse_override(text) for text in override or [])
    reports = check_bundle(open_bundle(bundle), overlay or [], overrides)
    for report in reports:
        state = f"{len(report.failures)} failed" if report.failures else "all resolve"
        typer.echo(f"{report.title}: {report.resolved} ids, {state}")
        for failure in report.failures:
            typer.echo(f"  {failure.key}: {failure.reason}")
    if any(report.failures for report in reports):
        raise typer.Exit(1)


@app.command()
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


def _parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(
            f"--set {text}: expected ID=VALUE, such as --set train::trainer::max_epochs=1."
        )
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


@app.command()
def shortcut(
    records: Annotated[Path, typer.Option(help="Folder of the finished cells' records.")] = Path(
        "results/ga_shortcut"
    ),
    bundle: Annotated[Path, typer.Option(help="The GA bundle's folder.")] = Path("bundles/ga_ppi"),
    data: Annotated[Path, typer.Option(help="Folder for the phantoms.")] = Path("data/ga_shortcut"),
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs/ga_shortcut"),
    methods: Annotated[str, typer.Option(help="Methods, commas between; default: all.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, commas between.")] = "0,1,2",
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    table_only: Annotated[
        bool, typer.Option("--table", help="Print the table of what is recorded; run nothing.")
    ] = False,
) -> None:
    """Table how far each method unlearns a site's artefact (GA phantom, about an hour).

    Cells that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.cells import Records
    from ppi_med.experiments.shortcut import DEFAULT_METHODS, ShortcutPlan, run_shortcut
    from ppi_med.experiments.shortcut_table import markdown, rows

    store = Records(records)
    failed: dict[str, str] = {}
    if not table_only:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
        )
        plan = ShortcutPlan(
            bundle=bundle,
            data=data,
            work=work,
            methods=tuple(methods.split(",")) if methods else DEFAULT_METHODS,
            seeds=tuple(int(seed) for seed in seeds.split(",")),
        )
        failed = run_shortcut(plan, store, workers)
    order = list(DEFAULT_METHODS)
    found = sorted(store.done(), key=lambda r: _place(str(r["method"]), order))
    typer.echo(markdown(rows(found)))
    if failed:
        raise typer.Exit(1)


@app.command(name="compare-methods")
def compare_methods(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")],
    data: Annotated[
        Path | None, typer.Option(help="Converted data set; default: the bundle's own.")
    ] = None,
    overlay: Annotated[
        list[str] | None,
        typer.Option(help="Configuration over train.json, a name in the bundle; repeatable."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="ID=VALUE", help="Override an id (JSON or text); repeatable."
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods, commas between; default: the paper's six rows.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, commas between.")] = "0,1,2",
    records: Annotated[
        Path | None, typer.Option(help="Folder of the records; default results/BUNDLE.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints; default runs/BUNDLE.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    table_only: Annotated[
        bool, typer.Option("--table", help="Print the tables of what is recorded; run nothing.")
    ] = False,
) -> None:
    """Train a bundle plainly and with PPI by every map; print the paper's Table 2 / 4 (and 7).

    Cells that have a record are not run again. Exit status 1 if a cell failed.
    """
    from ppi_med.experiments.cells import Records
    from ppi_med.experiments.method_comparison import (
        DEFAULT_METHODS,
        ComparisonPlan,
        run_comparison,
    )
    from ppi_med.experiments.method_comparison_table import entries, markdown

    store = Records(records or Path("results") / bundle.name)
    failed: dict[str, str] = {}
    if not table_only:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
        )
        plan = ComparisonPlan(
            bundle=bundle,
            work=work or Path("runs") / bundle.name,
            data=data,
            methods=tuple(methods.split(",")) if methods else DEFAULT_METHODS,
            seeds=tuple(int(seed) for seed in seeds.split(",")),
            overlays=tuple(overlay or ()),
            overrides=dict(_parse_override(text) for text in override or []),
        )
        failed = run_comparison(plan, store, workers)
    order = list(DEFAULT_METHODS)
    found = sorted(store.done(), key=lambda r: _place(str(r["method"]), order))
    typer.echo(markdown(entries(found)))
    if failed:
        raise typer.Exit(1)


def _place(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else len(order)


app.command(name="lidc-benchmark")(lidc_benchmark)
app.command(name="weak-segmentation")(weak_segmentation)
app.command(name="compare-maps")(compare_maps)
app.command(name="randomise-maps")(randomise_maps)


if __name__ == "__main__":
    main()
