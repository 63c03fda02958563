"""One cell of a sweep: an ordinary bundle run, and its predictions recorded in the same run."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppi_med.errors import MissingFileError, UnreachableError
from ppi_med.evaluation.metrics import AUC
from ppi_med.evaluation.predictions import Predictions
from ppi_med.experiments.bundles import bundle_command, run_bundle
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.cross_site import records
from ppi_med.experiments.cross_site.predictions import CONTEXT, as_dataset
from ppi_med.naming import TEST_AUC, VAL_AUC
from ppi_med.tracking.location import Location

logger = logging.getLogger(__name__)

OTHER_SITES = f"{TEST_AUC}_other_sites"
SAME_SITE = f"{TEST_AUC}_same_site"
_OPEN = ("RUNNING", "SCHEDULED")
# A training sets random states that all threads of a process share.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A cell with all that a worker, perhaps on another machine, needs to run it.

    Attributes:
        cell: what to run.
        files: configuration and overlays.
        location: where runs are kept.
        experiment: of MLflow.
        experiment_id: the same.
        parent: id of the sweep's run.
        folder: for checkpoints and outputs of this cell; what earlier attempts left is removed.
        patience: seconds to wait at the end for a tracking server that is away.
    """

    cell: Cell
    files: tuple[Path, ...]
    location: Location
    experiment: str
    experiment_id: str
    parent: str
    folder: Path
    patience: float = 900.0


def run_cell(job: Job) -> dict[str, Any]:
    """Train and test a cell; when this returns, MLflow has all of it.

    Returns:
        ``run_id`` and ``seconds``.
    """
    with _ONE_AT_A_TIME:
        started = time.monotonic()
        done = _close_earlier(job)
        if done is not None:
            # Its worker was lost after the last record: nothing is missing.
            return {"run_id": done, "seconds": round(time.monotonic() - started, 1)}
        shutil.rmtree(job.folder, ignore_errors=True)
        # A folder of its own: a worker that was taken for lost may still write into the other.
        folder = job.folder / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True)
        overrides = {**job.cell.overrides, **_places(job, folder), **_tags(job)}
        try:
            run_bundle(job.files, overrides)
            run_id = _complete(job, folder)
        except BaseException:
            _close_earlier(job, "FAILED")
            raise
        return {"run_id": run_id, "seconds": round(time.monotonic() - started, 1)}


def close_open(client: Any, runs: list[Any], status: str = "KILLED") -> list[str]:
    """Close the runs that nobody runs any more; return their names.

    A mark is left on them: one that is running all the same does not count when it ends.
    """
    closed = []
    for run in runs:
        tags = run.data.tags
        ended = run.info.status == "FINISHED" and not records.is_complete(run)
        if run.info.status in _OPEN or (ended and records.TAG_CLOSED not in tags):
            client.set_tag(run.info.run_id, records.TAG_CLOSED, "true")
            client.set_terminated(run.info.run_id, status)
            closed.append(str(run.info.run_name))
    return closed


def _close_earlier(job: Job, status: str = "KILLED") -> str | None:
    """Close what an earlier attempt at the cell has left open; return the run that is complete."""
    from ppi_med.tracking.store import Store, telling_unreachable_apart

    condition = (
        f"tags.`{records.PARENT}` = '{job.parent}' and "
        f"tags.`{records.TAG_CELL}` = '{job.cell.name}'"
    )
    try:
        client = Store(job.location, job.experiment).client
        with telling_unreachable_apart():
            runs = list(client.search_runs([job.experiment_id], condition))
            closed = close_open(client, runs, status)
    except UnreachableError:
        # The sweep closes it in the end.
        logger.warning("the tracking store is away: runs left open are closed later")
        return None
    if closed:
        logger.info("%s: an earlier attempt is closed as %s", job.cell.name, status)
    return next((str(run.info.run_id) for run in runs if records.is_complete(run)), None)


def _places(job: Job, folder: Path) -> dict[str, Any]:
    return {
        "run_name": job.cell.name,
        "output_dir": folder.as_posix(),
        "ckpt_dir": folder.as_posix(),
        "tracking_uri": job.location.uri,
        "experiment": job.experiment,
    }


def _tags(job: Job) -> dict[str, str]:
    """Return tags that the run has from its first moment, so that a crashed one can be found."""
    keys: Mapping[str, Any] = job.cell.keys
    tags = {
        records.PARENT: job.parent,
        records.TAG_CELL: job.cell.name,
        records.TAG_COMMAND: bundle_command(job.files, job.cell.overrides),
        records.TAG_TRAIN_SITES: json.dumps(list(keys["train_sites"])),
        "train_site": str(keys["train_site"]),
        records.TAG_CANDIDATE: str(keys["candidate"]) or "default",
    }
    if keys["fold"] is not None:
        tags["fold"] = str(keys["fold"])
    return {f"tags#{name}": value for name, value in tags.items()}


def _complete(job: Job, folder: Path) -> str:
    """Record predictions and AUC by site in the bundle's own run, and wait until all is sent."""
    from ppi_med.tracking.run import RunTracker, read_run_file

    path = folder / "test_predictions.csv"
    if not path.is_file():
        raise MissingFileError(
            f"The run has written no {path.name}: name ppi_med.handlers.PredictionsHandler in "
            "test#handlers, with the path output_dir/test_predictions.csv."
        )
    predictions = Predictions.read(path)
    tracker = RunTracker(
        job.location,
        folder,
        experiment=job.experiment,
        run_name=job.cell.name,
        config={},
        system_metrics=False,
    )
    tracker.start()
    measured = _measured(job, folder, predictions)
    tracker.outbox.put({"kind": "dataset", "dataset": as_dataset(predictions), "context": CONTEXT})
    tracker.log_metrics(measured, step=0)
    tracker.set_tags({records.TAG_COMPLETE: "true"})
    tracker.finish()
    _wait_until_sent(tracker.outbox, job)
    return str(tracker.run_id or read_run_file(folder)["run_id"])


def _wait_until_sent(outbox: Any, job: Job) -> None:
    limit = time.monotonic() + job.patience
    while not outbox.flush():
        if time.monotonic() > limit:
            raise ConnectionError(
                f"{job.location.uri} has been away for {job.patience:.0f} seconds: {job.cell.name} "
                "counts as not finished; run the sweep again when the server is there."
            )
        time.sleep(2.0)


def _measured(job: Job, folder: Path, predictions: Predictions) -> dict[str, float]:
    """Return the AUC of each site and the means, and the validation AUC of the tested weights."""
    trained = set(job.cell.keys["train_sites"])
    by_site = {}
    for site in sorted(set(predictions.site.tolist())):
        cases = predictions.of_site(site)
        by_site[site] = float(AUC(cases.label, cases.score))
    found = {f"{TEST_AUC}/{site}": value for site, value in by_site.items()}
    same = [value for site, value in by_site.items() if site in trained]
    other = [value for site, value in by_site.items() if site not in trained]
    found |= {SAME_SITE: _mean(same), OTHER_SITES: _mean(other)}
    best = folder / "model.json"
    if best.is_file():
        kept = json.loads(best.read_text(encoding="utf-8"))
        if kept.get("metric") == VAL_AUC:
            found[records.SELECTED] = float(kept["value"])
    return {name: value for name, value in found.items() if value == value}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
