"""The sub-commands `cross-site`, `cross-validate`, `tables`, `ui`: what MLflow keeps."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ppi_med.cli.options import (
    METHODS,
    DryRun,
    Overlay,
    Override,
    Seeds,
    completing,
    log_to_screen,
    names,
    numbers,
    overrides,
)
from ppi_med.errors import UsageError

Bundle = Annotated[
    Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle's folder; or a --preset.")
]
Preset = Annotated[
    str,
    typer.Option(
        help="A sweep with all its settings: ga-phantom, ga-phantom-marked, lidc-vendors.",
        autocompletion=completing("ga-phantom", "ga-phantom-marked", "lidc-vendors"),
    ),
]
DatasetDir = Annotated[
    str,
    typer.Option(
        help="Folder of the data; {train_site} in it: each training site has its own. "
        "Default: the bundle's."
    ),
]
Sites = Annotated[str, typer.Option(help="Sites, commas between; default: all of the data.")]
Methods = Annotated[
    str,
    typer.Option(
        help="Training methods, commas between; default: the preset's, or plain and the bundle's "
        "own (`method` of its train.json).",
        autocompletion=completing(*METHODS),
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--settings", metavar="NAME=VALUE,...", help="Method options to choose among; repeatable."
    ),
]
Selection = Annotated[
    str,
    typer.Option(
        help="How settings are chosen: in-site, leave-one-site-out, oracle.",
        autocompletion=completing("in-site", "leave-one-site-out", "oracle"),
    ),
]
Name = Annotated[
    str, typer.Option(help="Name of the sweep; the same name and settings continue it.")
]
Experiment = Annotated[str, typer.Option(help="Experiment in MLflow; default: bundle and command.")]
TrackingUri = Annotated[
    str,
    typer.Option(
        help="MLflow's address; default: MLFLOW_TRACKING_URI, or mlruns.db in the current folder."
    ),
]
Work = Annotated[Path, typer.Option(help="Folder for checkpoints, reached by all workers.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the tables.")]
Workers = Annotated[int, typer.Option(help="Processes; 0 or 1: this one.")]
Dask = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, or 'local' for one with --workers processes."),
]
_WORK = Path("runs/sweeps")


def cross_site(
    bundle: Bundle = None,
    preset: Preset = "",
    dataset_dir: DatasetDir = "",
    sites: Sites = "",
    train: Annotated[
        str, typer.Option(help="Train on: each, all-but-one, pooled; commas between.")
    ] = "each",
    methods: Methods = "",
    seeds: Seeds = "0,1,2",
    settings: Settings = None,
    selection: Selection = "in-site",
    override: Override = None,
    overlay: Overlay = None,
    name: Name = "",
    experiment: Experiment = "",
    tracking_uri: TrackingUri = "default",
    work: Work = _WORK,
    output: Output = None,
    workers: Workers = 2,
    dask: Dask = None,
    dry_run: DryRun = False,
) -> None:
    """Train on each site, test on all: matrix, heat map.

    One training for each training site, method and seed, tested on every site's held-out subjects.
    A second call continues: finished cells are kept, crashed ones are closed and run again. Exit
    status 1 if a cell failed.
    """
    _start("cross_site", **locals())


def cross_validate(
    bundle: Bundle = None,
    dataset_dir: DatasetDir = "",
    sites: Sites = "",
    methods: Methods = "",
    seeds: Seeds = "0",
    folds: Annotated[int, typer.Option(help="Folds of the splits to leave out in turn.")] = 5,
    settings: Settings = None,
    selection: Selection = "in-site",
    override: Override = None,
    overlay: Overlay = None,
    name: Name = "",
    experiment: Experiment = "",
    tracking_uri: TrackingUri = "default",
    work: Work = _WORK,
    output: Output = None,
    workers: Workers = 2,
    dask: Dask = None,
    dry_run: DryRun = False,
) -> None:
    """Test on each fold of subjects in turn: AUC, mean, SD.

    A second call continues, as for cross-site. Exit status 1 if a run failed.
    """
    _start("cross_validate", **locals())


def tables(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for all tables and figures.")
    ] = Path("results/tables"),
    tracking_uri: TrackingUri = "default",
    name: Annotated[
        str, typer.Option(help="Name of one sweep; default: all sweeps and runs.")
    ] = "",
    experiment: Annotated[str, typer.Option(help="Of MLflow; default: all.")] = "",
    selection: Selection = "in-site",
) -> None:
    """Rebuild all tables and figures from MLflow alone.

    Neither data nor checkpoints are needed.
    """
    from ppi_med.experiments.selection import selection_of
    from ppi_med.experiments.sweep_tables import rebuild
    from ppi_med.tracking.location import locate

    location = locate(".", tracking_uri)
    written = rebuild(location, output, selection_of(selection), name=name, experiment=experiment)
    for path in written:
        typer.echo(path.as_posix())
    if not written:
        raise UsageError(f"{location.uri} holds no finished run to make a table of.")


def ui(
    tracking_uri: TrackingUri = "default",
    port: Annotated[int, typer.Option(help="Of the server, on this machine only.")] = 5000,
) -> None:
    """Open MLflow: print the addresses, start the server."""
    from ppi_med.tracking.location import locate
    from ppi_med.tracking.store import Store, telling_unreachable_apart
    from ppi_med.tracking.view import addresses, server_command

    location = locate(".", tracking_uri)
    with telling_unreachable_apart():
        found = list(addresses(Store(location, "").client, location, port))
    typer.echo("\n".join(found or [f"There are no runs yet in {location.uri}."]))
    if words := server_command(location, port):
        typer.echo("The server is ready in about half a minute; stop it with Ctrl-C.")
        sys.stdout.flush()
        # The server would serve the address in there in the place of the one that it is given.
        others = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        os.execve(words[0], words, others)


def _start(kind: Literal["cross_site", "cross_validate"], *, dry_run: bool, **asked: Any) -> None:
    """Start what the options of a sub-command ask for, by name as they were given."""
    from ppi_med.experiments.cross_site import Request, look_ahead, start
    from ppi_med.tracking.location import locate
    from ppi_med.tracking.view import where_to_look

    for key in {"sites", "train", "methods"} & asked.keys():
        asked[key] = names(asked[key])
    request = Request(
        kind=kind,
        command=shlex.join(["ppi-med", *sys.argv[1:]]),
        seeds=numbers(asked.pop("seeds"), "--seeds"),
        settings=tuple(asked.pop("settings") or ()),
        overrides=overrides(asked.pop("override")),
        overlays=tuple(asked.pop("overlay") or ()),
        **asked,
    )
    if dry_run:
        typer.echo(look_ahead(request))
        return
    log_to_screen()
    result = start(request)
    whole = next((path for path in result.written if path.name == "tables.md"), None)
    if whole is not None:
        typer.echo(whole.read_text(encoding="utf-8"))
        typer.echo(f"{len(result.written)} files in {whole.parent}")
    typer.echo(where_to_look(locate(".", request.tracking_uri), result.sweep.experiment_id))
    if result.failed:
        typer.echo(f"{len(result.failed)} cells failed: {', '.join(result.failed)}", err=True)
        raise typer.Exit(1)
