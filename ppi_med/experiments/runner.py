"""Run the cells that have no record yet, in worker processes; a failed cell stops no other."""

from __future__ import annotations

import logging
import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from ppi_med.experiments.cells import Cell, Records

logger = logging.getLogger(__name__)

Run = Callable[[Cell], Mapping[str, Any]]


def run_cells(
    cells: Sequence[Cell], records: Records, run: Run, *, workers: int = 1
) -> dict[str, str]:
    """Run the missing cells and write their records.

    A run that is stopped goes on with the cells that are left when it is started again.

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
    if workers <= 1 or len(todo) <= 1:
        for number, cell in enumerate(todo, start=1):
            _keep(cell, _attempt(run, cell), records, failed, f"{number}/{len(todo)}")
        return failed
    _keep_freed_memory()
    # Fresh processes: a fork of one that has used torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        waiting = {pool.submit(_attempt, run, cell): cell for cell in todo}
        for number, future in enumerate(as_completed(waiting), start=1):
            outcome: Outcome
            try:
                outcome = future.result()
            except Exception as error:  # the process itself is gone
                outcome = (None, f"{type(error).__name__}: {error}")
            _keep(waiting[future], outcome, records, failed, f"{number}/{len(todo)}")
    return failed


Outcome = tuple[Mapping[str, Any] | None, str]


def _attempt(run: Run, cell: Cell) -> Outcome:
    try:
        return run(cell), ""
    except Exception:
        return None, traceback.format_exc(limit=-3)


def _keep(
    cell: Cell, outcome: Outcome, records: Records, failed: dict[str, str], place: str
) -> None:
    result, reason = outcome
    if result is None:
        failed[cell.name] = reason
        logger.error("cell %s (%s) failed: %s", cell.name, place, reason)
        return
    records.write(cell, result)
    logger.info("cell %s (%s) done", cell.name, place)


def _keep_freed_memory() -> None:
    """Let the workers' allocator keep what is freed: returning it costs a third of a CPU step."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(name, str(2**32))


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def scratch(folder: str | Path, cell: Cell) -> Path:
    """Return a cell's own working folder, made."""
    path = Path(folder) / cell.name
    path.mkdir(parents=True, exist_ok=True)
    return path
