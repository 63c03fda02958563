"""The tables and figures of a sweep, as pure functions of its records, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppi_med.experiments.cross_site.figures import heat_map
from ppi_med.experiments.cross_site.matrix import (
    PLAIN,
    Chosen,
    Gain,
    Matrix,
    choose,
    gain,
    matrices,
)
from ppi_med.experiments.cross_site.records import CellRecord, Sweep
from ppi_med.experiments.cross_site.selection import Selection
from ppi_med.experiments.cross_site.table import (
    Cell,
    Row,
    Table,
    markdown,
    number,
    signed,
    write_table,
)
from ppi_med.io import write_text

_INTERVAL = (
    "Differences to plain training of the same site and seed; 95 % intervals by paired bootstrap: "
    "subjects resampled; in the last columns seeds too."
)


def cross_site_tables(
    sweep: Sweep, records: Sequence[CellRecord], selection: Selection, repeats: int = 2000
) -> list[Table]:
    """Return the summary, the matrix of all methods, and Table 3 of each method beside plain.

    Args:
        sweep: whose records these are.
        records: the finished cells.
        selection: of settings; named below every table.
        repeats: resamples of the intervals.
    """
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
    from ppi_med.experiments.cross_site.folds import fold_results

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
                Cell(str(len(one.seeds)), len(one.seeds)),
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


def _gains(method: str, found: Gain) -> tuple[Cell, Cell]:
    if method == PLAIN:
        return Cell(""), Cell("")
    interval = signed(found.value, found.low, found.high)
    if np.isnan(found.value):
        return interval, Cell("")
    return interval, Cell(f"[{found.low_with_seeds:+.3f}, {found.high_with_seeds:+.3f}]")


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
    def part(matrix: Matrix, row: int) -> tuple[Cell, ...]:
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
    """Say in the title what is no result."""
    if not selection.oracle:
        return table
    title = f"ORACLE - {table.title}"
    return Table(f"oracle_{table.name}", title, table.columns, table.rows, table.notes)
