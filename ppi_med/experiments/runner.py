"""Run the cells that have no record yet, in worker processes; a failed cell stops no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppi_med.experiments.cells import Cell, Records
from ppi_med.experiments.pools import Outcome, make_pool

logger = logging.getLogger(__name__)

Run = Callable[[Cell], Mapping[str, Any]]


def run_cells(
    cells: Sequence[Cell], records: Records, run: Run, *, workers: int = 1
) -> dict[str, str]:
    """Run the missing cells and write their records.

    A run that is stopped goes on with the cells that are left when it is started again; its
    workers end with it. A cell whose worker was lost is given to another.

    Args:
        cells: all cells of the experiment, in the order to run them in.
        records: where finished cells are kept.
        run: cell -> result; picklable where there is more than one worker.
        workers: processes; each computes with one thread where there are several.

    Returns:
        Cell name -> reason, of the cells that failed.
    """
    todo = records.missing(cells)
    logger.info("%d of %d cells are done already", len(cells) - len(todo), len(cells))
    failed: dict[str, str] = {}
    pool = make_pool(workers if workers > 1 and len(todo) > 1 else 0)
    for number, outcome in enumerate(pool.run(run, todo), start=1):
        _keep(todo[outcome.index], outcome, records, failed, f"{number}/{len(todo)}")
    return failed


def _keep(
    cell: Cell, outcome: Outcome, records: Records, failed: dict[str, str], place: str
) -> None:
    if outcome.reason:
        failed[cell.name] = outcome.reason
        logger.error("cell %s (%s) failed: %s", cell.name, place, outcome.reason)
        return
    records.write(cell, outcome.result)
    logger.info("cell %s (%s) done", cell.name, place)


def scratch(folder: str | Path, cell: Cell) -> Path:
    """Return a cell's own working folder, made."""
    path = Path(folder) / cell.name
    path.mkdir(parents=True, exist_ok=True)
    return path
