"""A sweep: the parent run, the cells that are missing, and the tables in the end."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ppi_med import naming
from ppi_med.errors import UnreachableError, UsageError
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.cross_site import records
from ppi_med.experiments.cross_site.cell import Job, close_open, run_cell
from ppi_med.experiments.cross_site.plan import SweepPlan
from ppi_med.experiments.cross_site.records import CellRecord, Sweep
from ppi_med.experiments.cross_site.report import write_sweep
from ppi_med.experiments.cross_site.selection import InSiteValidation, Selection
from ppi_med.experiments.pools import HerePool, Pool
from ppi_med.tracking.location import Location

logger = logging.getLogger(__name__)

T = TypeVar("T")
_KIND = ("mlflow.experimentKind", "custom_model_development")


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has come to.

    Attributes:
        sweep: its parent run.
        records: its finished cells.
        failed: cell -> reason.
        written: tables and figures.
    """

    sweep: Sweep
    records: list[CellRecord]
    failed: dict[str, str] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)


def run_sweep(
    plan: SweepPlan,
    location: Location,
    facts: Mapping[str, Any],
    *,
    work: Path,
    output: Path,
    pool: Pool | None = None,
    selection: Selection | None = None,
    command: str = "",
    patience: float = 900.0,
) -> SweepResult:
    """Run the cells of a plan that are not finished, then write the tables of all that are.

    Started again with the same settings it goes on: finished cells are kept, runs that were left
    open are closed and their cells run again. Methods, seeds and settings may be added.

    Args:
        plan: the cells.
        location: where runs are kept.
        facts: hashes of configuration and data, part of what makes two sweeps the same one.
        work: folder for checkpoints and outputs, reached by all workers.
        output: folder for the tables.
        pool: where to compute; default in this process.
        selection: of settings; default by in-site validation.
        command: that started this, for the record.
        patience: seconds to wait for a tracking server that is away.

    Returns:
        The finished cells and the files; `failed` names what failed.

    Raises:
        UsageError: where another process runs the same sweep.
        UnreachableError: where the tracking server stays away.
    """
    from ppi_med.tracking.ending import EndingWatch, status_of

    key = plan.key(facts)
    folder = (work / f"{plan.name}-{key}").absolute()
    with _alone(folder):
        client, sweep = _insist(lambda: _open(plan, location, key, command), patience)
        watch = EndingWatch(lambda status: client.set_terminated(sweep.run_id, status))
        watch.install()
        try:
            failed = _run_missing(plan, location, sweep, client, folder, pool, patience)
            chosen = selection or InSiteValidation()
            done = _insist(lambda: _close_and_read(client, sweep), patience)
            written = write_sweep(sweep, done, output, chosen) if done else []
            _insist(lambda: _publish(client, sweep, done, written), patience)
        except BaseException as error:
            ended = status_of(error)
            try:
                _close_and_read(client, sweep)
                client.set_terminated(sweep.run_id, ended)
            except Exception:
                logger.warning("the sweep could not be closed: start it again to go on")
            raise
        finally:
            watch.remove()
        status = "FAILED" if failed else "FINISHED"
        _insist(lambda: client.set_terminated(sweep.run_id, status), patience)
    return SweepResult(sweep, done, failed, written)


def _run_missing(
    plan: SweepPlan,
    location: Location,
    sweep: Sweep,
    client: Any,
    folder: Path,
    pool: Pool | None,
    patience: float,
) -> dict[str, str]:
    """Run the cells that are not finished; return the reasons of those that failed."""
    done = _insist(lambda: _close_and_read(client, sweep), patience)
    finished = {record.name for record in done}
    todo = [cell for cell in plan.cells() if cell.name not in finished]
    logger.info("%d of %d cells are done already", len(plan.cells()) - len(todo), len(plan.cells()))
    jobs = [_job(plan, cell, location, sweep, folder, patience) for cell in todo]
    failed: dict[str, str] = {}
    ended = (pool or HerePool()).run(run_cell, jobs)
    for number, outcome in enumerate(ended, start=1):
        name = todo[outcome.index].name
        if outcome.reason:
            failed[name] = outcome.reason
            logger.error("cell %s (%d/%d) failed: %s", name, number, len(todo), outcome.reason)
        else:
            seconds = outcome.result["seconds"]
            logger.info("cell %s (%d/%d) done in %.0f s", name, number, len(todo), seconds)
    return failed


def _job(
    plan: SweepPlan, cell: Cell, location: Location, sweep: Sweep, folder: Path, patience: float
) -> Job:
    return Job(
        cell=cell,
        files=plan.files_of(str(cell.keys["method"])),
        location=location,
        experiment=plan.experiment,
        experiment_id=sweep.experiment_id,
        parent=sweep.run_id,
        folder=folder / cell.name,
        patience=patience,
    )


def _open(plan: SweepPlan, location: Location, key: str, command: str) -> tuple[Any, Sweep]:
    """Return MLflow's client and the parent run: the earlier one of this key, or a new one."""
    from ppi_med.tracking.provenance import git_commit
    from ppi_med.tracking.store import Store

    store = Store(location, plan.experiment)
    client = store.client
    earlier = _earlier(client, plan, key)
    if earlier is None:
        store.create(plan.name, int(time.time() * 1000))
    else:
        store.enter(earlier)
    tags = {
        records.TAG_KIND: plan.kind,
        records.TAG_SWEEP: plan.name,
        records.TAG_SWEEP_KEY: key,
        records.TAG_SITES: json.dumps(list(plan.sites)),
        records.TAG_COMMAND: command[:5000],
        naming.TAG_BUNDLE: plan.bundle.resolve().name,
        naming.TAG_GIT_COMMIT: git_commit(),
    }
    store.send({"kind": "tags", "items": {k: str(v) for k, v in tags.items() if v is not None}})
    run = client.get_run(store.run_id)
    # Without it MLflow's pages open as for language models, where the list of runs is hidden.
    client.set_experiment_tag(run.info.experiment_id, *_KIND)
    sweep = Sweep(
        run_id=str(store.run_id),
        name=plan.name,
        kind=plan.kind,
        bundle=tags[naming.TAG_BUNDLE] or "",
        sites=plan.sites,
        experiment_id=run.info.experiment_id,
        status="RUNNING",
    )
    return client, sweep


def _earlier(client: Any, plan: SweepPlan, key: str) -> str | None:
    experiment = client.get_experiment_by_name(plan.experiment)
    if experiment is None:
        return None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`{records.TAG_SWEEP_KEY}` = '{key}'"
    )
    named = [run for run in found if run.data.tags.get(records.TAG_SWEEP) == plan.name]
    return str(min(named, key=lambda r: int(r.info.start_time)).info.run_id) if named else None


def _close_and_read(client: Any, sweep: Sweep) -> list[CellRecord]:
    """Close what nobody runs any more; return the finished cells."""
    closed = close_open(client, records.children(client, sweep))
    if closed:
        logger.info("%d runs that were left open are closed: %s", len(closed), ", ".join(closed))
    return records.finished(client, sweep)


def _publish(client: Any, sweep: Sweep, done: list[CellRecord], written: list[Path]) -> None:
    """Record the tables and the means in the parent run."""
    from mlflow.entities import Metric

    from ppi_med.experiments.cross_site.matrix import matrices

    for path in written:
        client.log_artifact(sweep.run_id, str(path), "tables")
    if sweep.kind != "cross_site" or not done:
        return
    now = int(time.time() * 1000)
    means = {}
    for one in matrices(done, sweep.sites, InSiteValidation()):
        means[f"other_sites/{one.method}"] = one.other_sites
        means[f"same_site/{one.method}"] = one.same_site
    known = [Metric(name, value, now, 0) for name, value in means.items() if value == value]
    client.log_batch(sweep.run_id, metrics=known)


def _insist(call: Callable[[], T], patience: float) -> T:
    """Return what a call to the store returns, trying again while the store is away."""
    from ppi_med.tracking.store import telling_unreachable_apart

    limit = time.monotonic() + patience
    while True:
        try:
            with telling_unreachable_apart():
                return call()
        except UnreachableError as error:
            if time.monotonic() > limit:
                raise UnreachableError(
                    f"The tracking store is away ({error}): start the sweep again when it is "
                    "there; finished cells are kept."
                ) from error
            logger.warning("the tracking store is away (%s): trying again", error)
            time.sleep(min(5.0, max(patience / 10, 0.1)))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a sweep's folder; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"Another process runs this sweep ({folder.name}): wait until it ends, or give "
                "this one another --name."
            ) from error
        yield
    finally:
        os.close(handle)
