"""The interface of an experiment, and running its cells without a record."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ppi_med.experiments.cells import Cell
from ppi_med.experiments.records import FolderRecords, Record, Records
from ppi_med.experiments.table import Table
from ppi_med.io import exclusive
from ppi_med.pace import Pace
from ppi_med.parallel import run_jobs

logger = logging.getLogger(__name__)

Run = Callable[[Cell], Mapping[str, Any]]


class Experiment(ABC):
    """Which cells, which measure, which rows; picklable, as its cells run in worker processes."""

    @abstractmethod
    def cells(self) -> list[Cell]:
        """Return the cells in the order to run them in."""

    @abstractmethod
    def run(self, cell: Cell) -> Mapping[str, Any]:
        """Run one cell; return its record."""

    def further(self, records: Sequence[Record]) -> list[Cell]:
        """Return cells that depend on the records of the first ones."""
        return []

    def sources(self, records: Sequence[Record]) -> Mapping[str, Mapping[str, Any]]:
        """Return what the record of each cell must say, such as the data's hash, by its name."""
        return {}

    def prepare(self, workers: int) -> None:
        """Make what all cells need, such as a phantom; called if a cell is missing."""
        return None

    @staticmethod
    @abstractmethod
    def tables(records: Sequence[Record]) -> list[Table]:
        """Return the tables, from the records alone."""


def run_experiment(
    experiment: Experiment, records: FolderRecords, workers: int = 1
) -> dict[str, str]:
    """Run the missing cells of an experiment.

    Args:
        experiment: the experiment.
        records: records of finished cells.
        workers: processes; several compute with one thread each.

    Returns:
        Cell name -> reason, of the cells that failed.

    Raises:
        UsageError: if records are there of other data or settings, or another process runs
            cells for the same folder.
    """
    with exclusive(records.folder, "experiment"):
        records.require_same(experiment.sources(records.done()))
        if records.missing(experiment.cells()):
            experiment.prepare(workers)
        failed = run_cells(experiment.cells(), records, experiment.run, workers=workers)
        further = experiment.further(records.done())
        return failed | run_cells(further, records, experiment.run, workers=workers)


def run_cells(
    cells: Sequence[Cell],
    records: Records[Any],
    run: Run,
    *,
    workers: int = 1,
    dask: str | None = None,
) -> dict[str, str]:
    """Run the missing cells and keep their records; a failed cell does not stop the others.

    A stopped run continues with the missing cells when it is started again; its workers end with
    it. A cell whose worker was lost is given to another.

    Args:
        cells: all cells of the experiment, in the order to run them in.
        records: records of finished cells.
        run: cell -> result; picklable for more than one worker.
        workers: processes; a single one is this process.
        dask: address of a Dask scheduler, or `local`, to compute there instead.

    Returns:
        Cell name -> reason, of the cells that failed.
    """
    todo = records.missing(cells)
    logger.info("%d of %d cells are done already", len(cells) - len(todo), len(cells))
    failed: dict[str, str] = {}
    pace = Pace(len(todo))
    several = workers if workers > 1 and (dask or len(todo) > 1) else 0
    for number, outcome in enumerate(run_jobs(run, todo, workers=several, dask=dask), start=1):
        cell, place = todo[outcome.index], f"{number}/{len(todo)}"
        pace.done = number
        if outcome.reason:
            failed[cell.name] = outcome.reason
            logger.error("cell %s (%s) failed: %s", cell.name, place, outcome.reason)
            continue
        records.write(cell, outcome.result)
        seconds = outcome.result.get("seconds")
        took = "" if seconds is None else f" in {seconds:.0f} s"
        logger.info("cell %s (%s) done%s%s", cell.name, place, took, pace.left())
    return failed


def outlook(
    cells: Sequence[Cell], missing: Sequence[Cell], seconds: Sequence[float], workers: int = 1
) -> str:
    """Return the plan of a run: each cell, and the hours of the missing ones.

    Args:
        cells: cells of the experiment, without those that depend on records.
        missing: the cells without a record.
        seconds: seconds of the finished cells.
        workers: processes.

    Examples:
        >>> one, two = Cell("plain_seed0", {}), Cell("ppi_seed0", {})
        >>> print(outlook([one, two], [two], [3600.0]))
        done     plain_seed0
        to run   ppi_seed0
        1 of 2 cells to run, about 1.0 hours with 1 process.
    """
    todo = {cell.name for cell in missing}
    lines = [f"{'to run' if cell.name in todo else 'done':<8} {cell.name}" for cell in cells]
    processes = min(max(workers, 1), max(len(todo), 1))
    if seconds:
        hours = len(todo) * sum(seconds) / len(seconds) / processes / 3600
        time = f"about {hours:.1f} hours"
    else:
        time = "no cell has been timed yet, hours unknown"
    noun = "process" if processes == 1 else "processes"
    lines.append(f"{len(todo)} of {len(cells)} cells to run, {time} with {processes} {noun}.")
    return "\n".join(lines)
