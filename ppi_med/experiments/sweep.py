"""A sweep: the parent run, the missing cells, and the tables at the end."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ppi_med import naming
from ppi_med.errors import MissingFileError, UnreachableError
from ppi_med.experiments import sweep_records
from ppi_med.experiments.cells import Cell, bundle_command, run_bundle
from ppi_med.experiments.matrix import matrices
from ppi_med.experiments.plan import SweepPlan
from ppi_med.experiments.run import run_cells
from ppi_med.experiments.selection import InSiteValidation, Selection
from ppi_med.experiments.sweep_records import CellRecord, Sweep, SweepRecords
from ppi_med.experiments.sweep_tables import RUNS, runs_of, write_sweep
from ppi_med.io import exclusive
from ppi_med.tracking.location import Location

logger = logging.getLogger(__name__)

T = TypeVar("T")
_OPEN = ("RUNNING", "SCHEDULED")
# By this tag, which mlflow.log_table sets too, MLflow's pages show a file as a table.
_AS_TABLE = ("mlflow.loggedArtifacts", json.dumps([{"path": RUNS, "type": "table"}]))
# A training sets random states that all threads of a process share.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep."""

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
    workers: int = 1,
    dask: str | None = None,
    selection: Selection | None = None,
    command: str = "",
    patience: float = 900.0,
) -> SweepResult:
    """Run the unfinished cells of a plan, then write the tables of all finished ones.

    A second call with the same settings continues: finished cells are kept, open runs are closed
    and their cells run again. Methods, seeds and settings may be added.

    Args:
        plan: the plan.
        location: location of the runs.
        facts: hashes of configuration and data, which help to identify a sweep.
        work: folder for checkpoints and outputs, reached by all workers.
        output: folder for the tables.
        workers: processes; a single one is this process.
        dask: address of a Dask scheduler, or `local`, to compute there instead.
        selection: selection of settings; default by in-site validation.
        command: the command line, for the record.
        patience: seconds to wait for a tracking server that cannot be reached.

    Returns:
        The finished cells and the files; `failed` names the failed cells.

    Raises:
        UsageError: if another process runs the same sweep.
        UnreachableError: if the tracking server stays unreachable.
    """
    from ppi_med.tracking.ending import EndingWatch, status_of

    key = plan.key(facts)
    folder = (work / f"{plan.name}-{key}").absolute()
    with exclusive(folder, "sweep"):
        client, sweep = _insist(lambda: _open(plan, location, key, command), patience)
        watch = EndingWatch(lambda status: client.set_terminated(sweep.run_id, status))
        watch.install()
        try:
            store = SweepRecords(lambda: _insist(lambda: _close_and_read(client, sweep), patience))
            run = CellRun(plan, location, sweep, folder, patience)
            failed = run_cells(plan.cells(), store, run, workers=workers, dask=dask)
            chosen = selection or InSiteValidation()
            done = store.done()
            written = write_sweep(sweep, done, output, chosen) if done else []
            _insist(lambda: _publish(client, sweep, done, written, chosen), patience)
        except BaseException as error:
            ended = status_of(error)
            try:
                _close_and_read(client, sweep)
                client.set_terminated(sweep.run_id, ended)
            except Exception:
                logger.warning("the sweep could not be closed: start it again to continue")
            raise
        finally:
            watch.remove()
        status = "FAILED" if failed else "FINISHED"
        _insist(lambda: client.set_terminated(sweep.run_id, status), patience)
    return SweepResult(sweep, done, failed, written)


@dataclass(frozen=True)
class CellRun:
    """Trains and tests a cell of a sweep: an ordinary bundle run that records everything itself.

    Picklable, for a worker that may be on another machine.

    Attributes:
        plan: plan of the sweep.
        location: location of the runs.
        sweep: the parent run.
        folder: folder of the sweep, for checkpoints and outputs; what earlier attempts at a cell
            left is removed.
        patience: seconds to wait at the end for a tracking server that cannot be reached.
    """

    plan: SweepPlan
    location: Location
    sweep: Sweep
    folder: Path
    patience: float = 900.0

    def __call__(self, cell: Cell) -> dict[str, Any]:
        """Return `run_id` and `seconds`; MLflow has the rest of the cell."""
        with _ONE_AT_A_TIME:
            started = time.monotonic()
            done = self._close_earlier(cell)
            # Otherwise its worker was lost after the last record: nothing is missing.
            run_id = done if done is not None else self._trained(cell)
            return {"run_id": run_id, "seconds": round(time.monotonic() - started, 1)}

    def _trained(self, cell: Cell) -> str:
        shutil.rmtree(self.folder / cell.name, ignore_errors=True)
        # A new folder: a worker that was believed lost may still write into the old one.
        folder = self.folder / cell.name / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True)
        files = self.plan.files_of(str(cell.keys["method"]))
        try:
            run_bundle(files, {**cell.overrides, **self._places(cell, folder), **self._tags(cell)})
            return _insist(lambda: self._arrived(folder), self.patience)
        except BaseException:
            self._close_earlier(cell, "FAILED")
            raise

    def _arrived(self, folder: Path) -> str:
        """Send the waiting records in a run's folder; return its id, once the run is complete."""
        from ppi_med.tracking.run import read_run_file, send_pending

        send_pending(folder, self.location)
        run_id = str(read_run_file(folder)["run_id"])
        if not sweep_records.is_complete(self._client().get_run(run_id)):
            raise MissingFileError(
                f"The run in {folder} has ended and holds no predictions: name "
                "ppi_med.handlers.PredictionsHandler and ppi_med.handlers.TestSummary, the second "
                "with the tracker and finish: true, in test#handlers."
            )
        return run_id

    def _close_earlier(self, cell: Cell, status: str = "KILLED") -> str | None:
        """Close the runs that earlier attempts at a cell left open; return the complete run."""
        from ppi_med.tracking.store import telling_unreachable_apart

        condition = (
            f"tags.`{naming.PARENT}` = '{self.sweep.run_id}' and "
            f"tags.`{sweep_records.TAG_CELL}` = '{cell.name}'"
        )
        try:
            with telling_unreachable_apart():
                client = self._client()
                runs = list(client.search_runs([self.sweep.experiment_id], condition))
                closed = close_open(client, runs, status)
        except UnreachableError:
            # The sweep closes it at the end.
            logger.warning("the tracking store cannot be reached: open runs are closed later")
            return None
        if closed:
            logger.info("%s: an earlier attempt is closed as %s", cell.name, status)
        complete = (run for run in runs if sweep_records.is_complete(run))
        return next((str(run.info.run_id) for run in complete), None)

    def _client(self) -> Any:
        from ppi_med.tracking.store import Store

        return Store(self.location, self.plan.experiment).client

    def _places(self, cell: Cell, folder: Path) -> dict[str, Any]:
        return {
            "run_name": cell.name,
            "output_dir": folder.as_posix(),
            "ckpt_dir": folder.as_posix(),
            "tracking_uri": self.location.uri,
            "experiment": self.plan.experiment,
        }

    def _tags(self, cell: Cell) -> dict[str, str]:
        """Return tags that a run has from the start, so that a crashed run can be found."""
        keys: Mapping[str, Any] = cell.keys
        files = self.plan.files_of(str(keys["method"]))
        tags = {
            naming.PARENT: self.sweep.run_id,
            sweep_records.TAG_CELL: cell.name,
            naming.TAG_COMMAND: bundle_command(files, cell.overrides),
            sweep_records.TAG_TRAIN_SITES: json.dumps(
                list(keys["train_sites"]), ensure_ascii=False
            ),
            naming.TAG_TRAIN_SITE: str(keys["train_site"]),
            sweep_records.TAG_CANDIDATE: str(keys["candidate"]) or "default",
        }
        if keys["fold"] is not None:
            tags[naming.TAG_FOLD] = str(keys["fold"])
        return {f"tags#{name}": value for name, value in tags.items()}


def close_open(client: Any, runs: list[Any], status: str = "KILLED") -> list[str]:
    """Close the runs that no process runs any more; return their names.

    They are tagged: one that is still running does not count when it ends.
    """
    closed = []
    for run in runs:
        if run.info.status in _OPEN:
            client.set_tag(run.info.run_id, sweep_records.TAG_CLOSED, "true")
            client.set_terminated(run.info.run_id, status)
            closed.append(str(run.info.run_name))
    return closed


def _open(plan: SweepPlan, location: Location, key: str, command: str) -> tuple[Any, Sweep]:
    """Return MLflow's client and the parent run: the earlier one of this key, or a new one."""
    from ppi_med.tracking.provenance import git_commit, source_tags
    from ppi_med.tracking.store import Store

    store = Store(location, plan.experiment)
    client = store.client
    earlier = _earlier(client, plan, key)
    if earlier is None:
        store.create(plan.name, int(time.time() * 1000))
    else:
        store.enter(earlier)
    commit = git_commit()
    tags = {
        sweep_records.TAG_KIND: plan.kind,
        sweep_records.TAG_SWEEP: plan.name,
        sweep_records.TAG_SWEEP_KEY: key,
        sweep_records.TAG_SITES: json.dumps(list(plan.sites), ensure_ascii=False),
        **source_tags(command, commit),
        naming.TAG_BUNDLE: plan.bundle.resolve().name,
        naming.TAG_GIT_COMMIT: commit,
    }
    store.send({"kind": "tags", "items": {k: str(v) for k, v in tags.items() if v is not None}})
    run = client.get_run(store.run_id)
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
        [experiment.experiment_id], f"tags.`{sweep_records.TAG_SWEEP_KEY}` = '{key}'"
    )
    named = [run for run in found if run.data.tags.get(sweep_records.TAG_SWEEP) == plan.name]
    return str(min(named, key=lambda r: int(r.info.start_time)).info.run_id) if named else None


def _close_and_read(client: Any, sweep: Sweep) -> list[CellRecord]:
    """Close the runs that no process runs any more; return the finished cells."""
    closed = close_open(client, sweep_records.children(client, sweep))
    if closed:
        logger.info("%d runs that were left open are closed: %s", len(closed), ", ".join(closed))
    return sweep_records.finished(client, sweep)


def _publish(
    client: Any, sweep: Sweep, done: list[CellRecord], written: list[Path], selection: Selection
) -> None:
    """Record the tables, the means by the same selection, and what it all came to."""
    from mlflow.entities import Metric

    for path in written:
        client.log_artifact(sweep.run_id, str(path), "tables")
    means: dict[str, float] = {}
    if sweep.kind == "cross_site":
        # The oracle's means are upper bounds and must not be taken for results.
        prefix = "oracle/" if selection.oracle else ""
        for one in matrices(done, sweep.sites, selection) if done else []:
            means[f"{prefix}other_sites/{one.method}"] = one.other_sites
            means[f"{prefix}same_site/{one.method}"] = one.same_site
        client.set_tag(sweep.run_id, sweep_records.TAG_SELECTION, selection.name)
    known = {name: value for name, value in means.items() if value == value}
    now = int(time.time() * 1000)
    client.log_batch(sweep.run_id, metrics=[Metric(n, v, now, 0) for n, v in known.items()])
    if done:
        client.log_dict(sweep.run_id, runs_of(done, sweep.sites), RUNS)
        client.set_tag(sweep.run_id, *_AS_TABLE)
    _describe(client, sweep, done, known)


def _describe(
    client: Any, sweep: Sweep, done: list[CellRecord], means: Mapping[str, float]
) -> None:
    """Say in the parent run's description what was trained, with which result."""
    from ppi_med.tracking.notes import NOTE, note

    methods = ", ".join(dict.fromkeys(record.method for record in done)) or "none yet"
    sentences = [
        f"A {sweep.kind} sweep of the bundle {sweep.bundle} over {', '.join(sweep.sites)}: "
        f"{len(done)} finished trainings, methods {methods}.",
        "Mean AUC: " + ", ".join(f"{n} {v:.3f}" for n, v in means.items()) + "."
        if means
        else "The means are in its tables.",
    ]
    command = client.get_run(sweep.run_id).data.tags[naming.TAG_COMMAND]
    picture = "tables/heat_map.png" if means else ""
    client.set_tag(sweep.run_id, NOTE, note(sentences, command, sweep.run_id, picture))


def _insist(call: Callable[[], T], patience: float) -> T:
    """Return the result of a call to the store, trying again while it cannot be reached."""
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
            logger.warning("the tracking store cannot be reached (%s): trying again", error)
            time.sleep(min(5.0, max(patience / 10, 0.1)))
