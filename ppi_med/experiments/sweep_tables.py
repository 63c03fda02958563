"""Tables and figures of sweeps and of ordinary runs, from MLflow's records alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med import naming
from ppi_med.errors import UnreachableError
from ppi_med.experiments import sweep_records
from ppi_med.experiments.compare import PLAIN
from ppi_med.experiments.figures import heat_map
from ppi_med.experiments.matrix import Chosen, Gain, Matrix, choose, fold_results, gain, matrices
from ppi_med.experiments.selection import Selection
from ppi_med.experiments.sweep_records import CellRecord, Sweep
from ppi_med.experiments.table import Row, Table, Value, markdown, number, signed, write_table
from ppi_med.io import exclusive, write_text
from ppi_med.tracking.location import Location

_REFUSED = r"[^\w\-]"
_INTERVAL = (
    "Differences to plain training of the same site and seed; 95 % intervals by paired bootstrap: "
    "subjects resampled; in the last columns seeds too."
)
RUNS = "tables/all_runs.json"
"""Artifact of a sweep's parent run: all its runs."""
_TAGS = (
    naming.TAG_BUNDLE,
    naming.TAG_METHOD,
    naming.TAG_MASK,
    naming.TAG_TRAIN_SITE,
    naming.TAG_TEST_SITE,
)
# Not results: ends of intervals, and values that the tables of sweeps show by site.
_LEFT_OUT = re.compile(r"_(low|high|same_site|other_sites|selected)$|^test/auc/|threshold$")


def cross_site_tables(
    sweep: Sweep, records: Sequence[CellRecord], selection: Selection, repeats: int = 2000
) -> list[Table]:
    """Return the summary, the matrix of all methods, and Table 3 of each method and plain."""
    found = matrices(records, sweep.sites, selection)
    chosen = choose(records, sweep.sites, selection)
    notes = (f"Selection: {selection.note}.",)
    tables = [_summary(sweep, found, chosen, notes, repeats), _matrix(sweep, found, notes)]
    plain = next((one for one in found if one.method == PLAIN), None)
    for one in found:
        if plain is not None and one is not plain:
            tables.append(_side_by_side(sweep, plain, one, notes))
    return [_marked(table, selection) for table in tables]


def fold_tables(sweep: Sweep, records: Sequence[CellRecord], selection: Selection) -> list[Table]:
    """Return mean and SD over the subject-wise folds for each method (Table 2's GA column)."""
    results = fold_results(records, selection)
    folds = sorted({fold for one in results for fold in one.folds})
    rows: list[Row] = [
        (
            one.method,
            *(number(one.folds.get(fold, float("nan"))) for fold in folds),
            number(one.mean, one.deviation),
            signed(one.gain, one.low, one.high),
        )
        for one in results
    ]
    table = Table(
        "folds",
        f"{sweep.bundle}, {len(folds)} folds over subjects: AUC on the fold left out",
        ("method", *(f"fold {fold}" for fold in folds), "mean ± SD", "difference to plain"),
        tuple(rows),
        (
            "Each value is the mean over the seeds; mean and standard deviation (n - 1) over the "
            "folds. Intervals: subjects resampled, paired.",
            f"Selection: {selection.note}.",
        ),
    )
    return [_marked(table, selection)]


def write_sweep(
    sweep: Sweep, records: Sequence[CellRecord], folder: Path, selection: Selection
) -> list[Path]:
    """Write all tables and figures of a sweep into a folder; return the files."""
    from ppi_med.evaluation.figures import save_figure

    if sweep.kind == "cross_site":
        tables = cross_site_tables(sweep, records, selection)
    else:
        tables = fold_tables(sweep, records, selection)
    written = [path for table in tables for path in write_table(table, folder)]
    whole = folder / "tables.md"
    write_text(whole, "\n".join(markdown(table) for table in tables))
    if sweep.kind == "cross_site":
        found = matrices(records, sweep.sites, selection)
        title = f"{sweep.bundle}: AUC by training and test site (framed: trained on)"
        note = selection.note if selection.oracle else ""
        picture = heat_map(found, title, note)
        written.append(save_figure(picture, folder / "heat_map.png", dpi=130))
    return [whole, *written]


def runs_of(records: Sequence[CellRecord], sites: Sequence[str]) -> dict[str, Any]:
    """Return all runs of a sweep as the table that `MlflowClient.load_table` reads: a row a run.

    The AUC comes second, where MLflow's pages take what they show at first.
    """
    aucs = [naming.TEST_AUC, naming.SELECTED, *(f"{naming.TEST_AUC}/{site}" for site in sites)]
    rows = []
    for one in records:
        values = [one.auc(), one.validation, *(one.auc(site) for site in sites)]
        shown = [f"{value:.4f}" for value in values]
        rows.append([one.name, *shown, one.method, one.train_site, one.seed, one.fold])
    return {"columns": ["run", *aucs, "method", "train_site", "seed", "fold"], "data": rows}


def _summary(
    sweep: Sweep, found: Sequence[Matrix], chosen: Chosen, notes: tuple[str, ...], repeats: int
) -> Table:
    rows: list[Row] = []
    for one in found:
        others = gain(chosen, one.method, True, repeats=repeats)
        same = gain(chosen, one.method, False, repeats=repeats)
        rows.append(
            (
                one.method,
                number(one.other_sites),
                number(one.same_site),
                number(one.deviation),
                *_gains(one.method, others),
                *_gains(one.method, same),
                Value(str(len(one.seeds)), len(one.seeds)),
            )
        )
    return Table(
        "summary",
        f"{sweep.bundle}: mean AUC on other sites and on the same site",
        (
            "method",
            "other sites",
            "same site",
            "STD",
            "other sites, difference",
            "with seeds",
            "same site, difference",
            "with seeds ",
            "seeds",
        ),
        tuple(rows),
        (_INTERVAL, *notes),
    )


def _gains(method: str, found: Gain) -> tuple[Value, Value]:
    if method == PLAIN:
        return Value(""), Value("")
    interval = signed(found.value, found.low, found.high)
    if np.isnan(found.value):
        return interval, Value("")
    return interval, Value(f"[{found.low_with_seeds:+.3f}, {found.high_with_seeds:+.3f}]")


def _matrix(sweep: Sweep, found: Sequence[Matrix], notes: tuple[str, ...]) -> Table:
    rows: list[Row] = [
        (
            one.method,
            label,
            *(number(one.values[i, j], one.deviations[i, j]) for j in range(len(sweep.sites))),
            number(float(one.row_means[i])),
            number(float(one.row_deviations[i])),
        )
        for one in found
        for i, label in enumerate(one.train_sites)
    ]
    return Table(
        "matrix",
        f"{sweep.bundle}: AUC by training site (row) and test site (column)",
        ("method", "trained on", *sweep.sites, "mean", "STD"),
        tuple(rows),
        ("Mean ± standard deviation over seeds; mean and STD of a row over its sites.", *notes),
    )


def _side_by_side(sweep: Sweep, plain: Matrix, one: Matrix, notes: tuple[str, ...]) -> Table:
    def part(matrix: Matrix, row: int) -> tuple[Value, ...]:
        return (
            *(number(float(value)) for value in matrix.values[row]),
            number(float(matrix.row_means[row])),
            number(float(matrix.row_deviations[row])),
        )

    names = (*sweep.sites, "mean", "STD")
    rows: list[Row] = [
        (label, *part(plain, row), *part(one, row)) for row, label in enumerate(plain.train_sites)
    ]
    return Table(
        f"table3_{one.method}",
        f"{sweep.bundle}: without ({PLAIN}) and with {one.method}, side by side (Table 3)",
        (
            "trained on",
            *(f"{PLAIN}: {name}" for name in names),
            *(f"{one.method}: {name}" for name in names),
        ),
        tuple(rows),
        ("AUC on held-out subjects, mean over the seeds.", *notes),
    )


def _marked(table: Table, selection: Selection) -> Table:
    """Mark in the title what is not a result."""
    if not selection.oracle:
        return table
    title = f"ORACLE - {table.title}"
    return Table(f"oracle_{table.name}", title, table.columns, table.rows, table.notes)


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
        location: location of the store, such as a copied database.
        output: a folder; each sweep and each experiment gets its own folder inside.
        selection: selection of settings, in sweeps that have several.
        name: name of one sweep only; ordinary runs are then left out.
        experiment: only this experiment.

    Returns:
        The files.

    Raises:
        UnreachableError: if the store cannot be reached.
    """
    from ppi_med.tracking.store import Store, telling_unreachable_apart

    try:
        with telling_unreachable_apart():
            client = Store(location, experiment or "tables").client
            writers = _read(client, output, selection, name, experiment)
    except UnreachableError as error:
        raise UnreachableError(
            f"{location.uri} cannot be reached ({error}): start the server, or name another store "
            "with --tracking-uri."
        ) from error
    if not writers:
        return []
    with exclusive(output, "table"):
        return [path for write in writers for path in write()]


def _read(
    client: Any, output: Path, selection: Selection, name: str, experiment: str
) -> list[Callable[[], list[Path]]]:
    """Return what writes each sweep's and experiment's tables; all of the store has been read."""
    experiments = [one for one in client.search_experiments() if experiment in ("", one.name)]
    ids = [one.experiment_id for one in experiments]
    writers: list[Callable[[], list[Path]]] = []
    used: set[str] = set()
    for sweep in sweep_records.find_sweeps(client, ids) if ids else []:
        if name and sweep.name != name:
            continue
        done = sweep_records.finished(client, sweep)
        if not done:
            continue
        # Two sweeps with one name differ in their settings.
        folder = sweep.name if sweep.name not in used else f"{sweep.name}-{sweep.run_id[:8]}"
        used.add(folder)
        writers.append(partial(write_sweep, sweep, done, output / folder, selection))
    for one in experiments if not name else []:
        table = runs_table(one.name, _single_runs(client, one.experiment_id))
        if table is not None:
            writers.append(partial(write_table, table, output / "runs"))
    return writers


def runs_table(experiment: str, runs: Sequence[Any]) -> Table | None:
    """Return the finished runs of an experiment by their tags, mean and SD over seeds and folds.

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
        (*key, Value(str(len(group)), len(group)), *(_mean(group, metric) for metric in metrics))
        for key, group in sorted(groups.items())
    ]
    return Table(
        f"runs_{naming.distinct(experiment, _REFUSED, 100)}",
        f"Finished runs of {experiment} by method",
        (*_TAGS, "runs", *metrics),
        tuple(rows),
        ("Mean ± standard deviation over the runs of a row: its seeds and folds.",),
    )


def _mean(group: Sequence[dict[str, float]], metric: str) -> Value:
    values = [run[metric] for run in group if metric in run]
    if not values:
        return Value("")
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
            if naming.PARENT not in run.data.tags and sweep_records.TAG_KIND not in run.data.tags
        ]
        token = page.token
        if not token:
            return found
