"""All tables and figures from MLflow alone: sweeps, and ordinary runs by method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med import naming
from ppi_med.errors import UnreachableError
from ppi_med.experiments.cross_site import records
from ppi_med.experiments.cross_site.report import write_sweep
from ppi_med.experiments.cross_site.selection import Selection
from ppi_med.experiments.cross_site.table import Cell, Row, Table, number, write_table
from ppi_med.tracking.location import Location

_TAGS = (
    naming.TAG_BUNDLE,
    naming.TAG_METHOD,
    naming.TAG_MASK,
    naming.TAG_TRAIN_SITE,
    naming.TAG_TEST_SITE,
)
# Not results: ends of intervals, and what the tables of sweeps show by site.
_LEFT_OUT = re.compile(r"_(low|high)$|^test/auc/|threshold$")


def rebuild(
    location: Location,
    output: Path,
    selection: Selection,
    *,
    name: str = "",
    experiment: str = "",
) -> list[Path]:
    """Write the tables and figures of all sweeps and runs that a store holds.

    Args:
        location: of the store, such as a copied database.
        output: a folder; each sweep and each experiment gets its own in it.
        selection: of settings, in sweeps that have several.
        name: of one sweep only; ordinary runs are then left out.
        experiment: only of this experiment.

    Returns:
        The files.

    Raises:
        UnreachableError: where the store cannot be reached.
    """
    from ppi_med.tracking.store import Store, telling_unreachable_apart

    try:
        with telling_unreachable_apart():
            client = Store(location, experiment or "tables").client
            return _rebuild(client, output, selection, name, experiment)
    except UnreachableError as error:
        raise UnreachableError(
            f"{location.uri} cannot be reached ({error}): start the server, or name another store "
            "with --tracking-uri."
        ) from error


def _rebuild(
    client: Any, output: Path, selection: Selection, name: str, experiment: str
) -> list[Path]:
    experiments = [one for one in client.search_experiments() if experiment in ("", one.name)]
    ids = [one.experiment_id for one in experiments]
    written: list[Path] = []
    used: set[str] = set()
    for sweep in records.find_sweeps(client, ids) if ids else []:
        if name and sweep.name != name:
            continue
        done = records.finished(client, sweep)
        if not done:
            continue
        # Two sweeps of one name differ in their settings.
        folder = sweep.name if sweep.name not in used else f"{sweep.name}-{sweep.run_id[:8]}"
        used.add(folder)
        written += write_sweep(sweep, done, output / folder, selection)
    for one in experiments if not name else []:
        table = runs_table(one.name, _single_runs(client, one.experiment_id))
        if table is not None:
            written += write_table(table, output / "runs")
    return written


def runs_table(experiment: str, runs: Sequence[Any]) -> Table | None:
    """Return the finished runs of an experiment by their tags, mean and SD over seeds and folds.

    Args:
        experiment: its name.
        runs: of MLflow.

    Returns:
        None where no run has a test metric.
    """
    groups: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for run in runs:
        measured = {
            metric: float(value)
            for metric, value in run.data.metrics.items()
            if metric.split("/")[0] in ("test", "seg") and not _LEFT_OUT.search(metric)
        }
        if measured:
            key = tuple(run.data.tags.get(tag, "") for tag in _TAGS)
            groups.setdefault(key, []).append(measured)
    if not groups:
        return None
    metrics = sorted({metric for group in groups.values() for run in group for metric in run})
    rows: list[Row] = [
        (*key, Cell(str(len(group)), len(group)), *(_mean(group, metric) for metric in metrics))
        for key, group in sorted(groups.items())
    ]
    return Table(
        f"runs_{re.sub(r'[^0-9A-Za-z_-]', '_', experiment)}",
        f"Finished runs of {experiment} by method",
        (*_TAGS, "runs", *metrics),
        tuple(rows),
        ("Mean ± standard deviation over the runs of a row: its seeds and folds.",),
    )


def _mean(group: Sequence[dict[str, float]], metric: str) -> Cell:
    values = [run[metric] for run in group if metric in run]
    if not values:
        return Cell("")
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return number(float(np.mean(values)), spread)


def _single_runs(client: Any, experiment_id: str) -> list[Any]:
    """Return the finished runs that belong to no sweep."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], "attributes.status = 'FINISHED'", max_results=200, page_token=token
        )
        found += [
            run
            for run in page
            if records.PARENT not in run.data.tags and records.TAG_KIND not in run.data.tags
        ]
        token = page.token
        if not token:
            return found
