"""A run of MLflow managed here: opened once, continued by its id, always closed."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ppi_med import naming
from ppi_med.errors import UnreachableError, UsageError
from ppi_med.io import write_json
from ppi_med.tracking.base import Status, Tracker
from ppi_med.tracking.ending import EndingWatch
from ppi_med.tracking.location import Location
from ppi_med.tracking.notes import NOTE, note, trained
from ppi_med.tracking.outbox import Journal, Outbox
from ppi_med.tracking.provenance import command, git_commit, source_tags, versions
from ppi_med.tracking.settings import parameters, read_config, safe_name, shorten
from ppi_med.tracking.store import Store
from ppi_med.tracking.system import SystemMetrics
from ppi_med.tracking.view import where_to_look

RUN_FILE = "mlflow_run.json"
PENDING_FILE = "mlflow_pending.jsonl"
# Folders in which records of earlier runs wait begin like this.
ASIDE = "mlflow_pending-"
CONFIG_FILE = "resolved_config.json"

logger = logging.getLogger(__name__)


class RunTracker(Tracker):
    """Records one run; see `ppi_med.tracking.create_tracker` for the arguments.

    While the store cannot be reached, records wait in `mlflow_pending.jsonl` of the run's folder
    and are sent as soon as it can; training does not stop. Records of an earlier run in the folder
    are sent to that run, or keep waiting in `mlflow_pending-RUN`.
    """

    def __init__(
        self,
        location: Location,
        directory: str | os.PathLike[str],
        *,
        experiment: str = "ppi_med",
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        system_metrics: bool = True,
        resume: bool = True,
        retry_after: float = 30.0,
    ) -> None:
        self.directory = Path(directory)
        self.run_name = run_name or _default_name(experiment)
        self.tags = dict(tags or {})
        self.params = dict(params or {})
        self.config = config
        self.system_metrics = system_metrics
        self.resume = resume
        self.store = Store(location, experiment)
        self.retry_after = retry_after
        self.outbox = self._new_outbox()
        self._wanted: str | None = None
        self._has_begun = False
        self._started = _now()
        self._is_open = False
        self._watch = EndingWatch(self.finish)
        self._system: SystemMetrics | None = None
        self._epochs: Any = None
        self._picture = ""
        self._described = False

    @property
    def active(self) -> bool:
        """True: this tracker records."""
        return True

    @property
    def run_id(self) -> str | None:  # type: ignore[override]
        """Id of the open run; None before the store has given one."""
        return self.store.run_id

    def start(self) -> None:
        """Open or continue the run, and record its settings.

        Raises:
            UsageError: if the experiment is deleted.
        """
        if self._is_open:
            return
        self._is_open = True
        self._started = _now()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._watch.install()
        try:
            self._begin()
        except UsageError:
            if self.run_id is None:
                # The store accepts no run: there is none to close when the process exits.
                self._is_open = False
                self._watch.remove()
            raise

    def _begin(self) -> None:
        if not self.resume and not self._has_begun:
            self._begin_anew()
        elif not (self.directory / RUN_FILE).exists():
            self._remember(self.run_name)
        self._has_begun = True
        config = read_config(self.config)
        self._epochs = config.get("max_epochs")
        self.set_tags(self._own_tags())
        self.log_params(parameters(config, self.tags, self.params))
        if config:
            write_json(self.directory / CONFIG_FILE, json.loads(json.dumps(config, default=str)))
            self.log_artifact(self.directory / CONFIG_FILE)
        if self.system_metrics:
            self._system = SystemMetrics(self._started)
            self._system.start()

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics of a step, with the samples of the machine's load, in one request."""
        now = _now()
        items = [[safe_name(name), float(value), now, int(step)] for name, value in values.items()]
        if self._system is not None:
            items += self._system.take()
        if items:
            self.outbox.put({"kind": "metrics", "items": items})

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters; long values are shortened, see `settings.shorten`."""
        items = {safe_name(name): shorten(value) for name, value in values.items()}
        if items:
            self.outbox.put({"kind": "params", "items": items})

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; None is left out."""
        items = {safe_name(n): str(v) for n, v in values.items() if v is not None}
        if items:
            self.outbox.put({"kind": "tags", "items": items})

    def log_artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Record a file or a whole folder; it must stay there until it is sent."""
        folder = folder.strip("/")
        if not self._picture and Path(path).suffix == ".png":
            self._picture = f"{folder}/{Path(path).name}".lstrip("/")
        self.outbox.put({"kind": "artifact", "path": os.path.abspath(path), "folder": folder})

    def log_dataset(
        self,
        name: str,
        rows: Iterable[Mapping[str, Any]],
        context: str,
        source: str | os.PathLike[str] = "",
    ) -> None:
        """Record the cases of a part of the data as MLflow's own data set.

        Args:
            name: name of the data set.
            rows: one per case, of plain values: ids, site, label; not paths that name a patient.
            context: the part, such as "train".
            source: source of the rows, such as the datalist.
        """
        from ppi_med.tracking.settings import describe

        dataset = describe(name, rows, os.fspath(source))
        self.outbox.put({"kind": "dataset", "dataset": dataset, "context": context})

    def log_predictions(self, text: str) -> None:
        """Record the prediction for each held-out case in the run's record itself.

        Args:
            text: text of `ppi_med.evaluation.predictions.Predictions.to_json`.

        Raises:
            UsageError: if there are too many for one record.
        """
        from ppi_med.tracking.settings import PREDICTIONS, described_predictions

        dataset = described_predictions(text)
        self.outbox.put({"kind": "dataset", "dataset": dataset, "context": PREDICTIONS})

    def log_model(self, network: Any, example: Any, **options: Any) -> str | None:
        """Record the network in MLflow's own format.

        Args:
            network: a module.
            example: an input `(N, C, *spatial)`.
            options: `name` (default "model"), `registered_name` (registers it; default not),
                `step`, and those of `ppi_med.tracking.models.write_model`.

        Returns:
            None: the run has its location as soon as it is sent.
        """
        from ppi_med.tracking.models import write_model

        record = {
            "kind": "model",
            "path": str((self.directory / "mlflow_model").absolute()),
            "name": options.pop("name", "model"),
            "registered_name": options.pop("registered_name", None),
            "step": int(options.pop("step", 0)),
        }
        write_model(network, example, Path(record["path"]), **options)
        self.outbox.put(record)
        return None

    def describe(self, result: str) -> None:
        """Record the run's description: what was trained, the result, picture and command."""
        self._described = True
        sentences = [trained(self.tags, self._epochs), result]
        again = str(self.tags.get(naming.TAG_COMMAND) or command())
        self.set_tags({NOTE: note(sentences, again, self.run_id, self._picture)})

    def where(self) -> str:
        """Return how to open the experiment's runs; "" where a sweep says it for all its cells."""
        if self.store.experiment_id is None or naming.PARENT in self.tags:
            return ""
        return where_to_look(self.store.location, self.store.experiment_id)

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run with this status; further calls do nothing until `start`."""
        if not self._is_open:
            return
        self._is_open = False
        if not self._described and naming.TAG_BUNDLE in self.tags:
            self.describe(f"It ended as {status}, without a result.")
        if self._system is not None:
            self._system.stop()
            self.outbox.put({"kind": "metrics", "items": self._system.take()})
            self._system = None
        self.outbox.put({"kind": "status", "status": status, "time": _now()})
        if not self.outbox.flush(attempts=3):
            logger.warning(
                "The tracking store cannot be reached: %d records wait in %s; the next run in this "
                "folder, or ppi_med.tracking.pending.send_pending, sends them.",
                len(self.outbox.journal),
                self.outbox.journal.path,
            )
        self._watch.remove()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the checkpoint's run as the one to continue, if the folder does not know its own."""
        if self.run_id is None:
            self._wanted = state["run_id"]

    def _open(self) -> None:
        """Open the run if needed; called before each record."""
        if self.store.run_id is not None:
            return
        earlier = self._earlier()
        name = self.store.enter(earlier) if earlier else None
        if earlier and name is None:
            logger.warning("Run %s is not in %s: a new one begins.", earlier, self._uri)
        if name is None:
            name = self.store.create(self.run_name, self._started)
        self._remember(name)
        logger.info("Run %r (%s) is recorded in %s.", name, self.run_id, self._uri)

    def _remember(self, name: str) -> None:
        """Record the run of this folder; before it is open, the planned one."""
        found = {
            "run_id": self.run_id,
            "run_name": name,
            "experiment": self.store.experiment,
            "tracking_uri": self._uri,
            "started": self._started,
        }
        write_json(self.directory / RUN_FILE, found)

    def _earlier(self) -> str | None:
        """Return the id of this folder's run, or the checkpoint's."""
        if not self.resume:
            return None
        known = read_run_file(self.directory)
        earlier = known.get("run_id") if known.get("tracking_uri") == self._uri else None
        return earlier or self._wanted

    def _begin_anew(self) -> None:
        """Leave this folder's earlier run, and close it if it was left open."""
        if len(self.outbox.journal):
            _part_with_earlier(self.directory, self.store.location)
            self.outbox = self._new_outbox()
        known = read_run_file(self.directory)
        self._remember(self.run_name)
        if known.get("run_id") and known.get("tracking_uri") == self._uri:
            self.outbox.put({"kind": "abandon", "run_id": known["run_id"], "time": _now()})

    def _new_outbox(self) -> Outbox:
        journal = Journal(self.directory / PENDING_FILE)
        return Outbox(journal, self.store.send, self._open, self.retry_after)

    def _own_tags(self) -> dict[str, Any]:
        made_with = {f"version.{name}": number for name, number in versions().items()}
        commit = git_commit()
        source = source_tags(str(self.tags.get(naming.TAG_COMMAND) or command()), commit)
        return {naming.TAG_GIT_COMMIT: commit, **source, **made_with, **self.tags}

    @property
    def _uri(self) -> str:
        return self.store.location.uri


def read_run_file(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of a folder's run; empty without a run."""
    file = Path(directory) / RUN_FILE
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def tracker_of(folder: Path, location: Location) -> RunTracker:
    """Return a tracker of the run that a folder belongs to."""
    known = read_run_file(folder)
    return RunTracker(
        location,
        folder,
        experiment=known.get("experiment", "ppi_med"),
        run_name=known.get("run_name"),
    )


def _part_with_earlier(directory: Path, location: Location) -> None:
    """Send the waiting records in a folder to their run, or move them: another run begins."""
    known = read_run_file(directory)
    if known.get("tracking_uri") == location.uri:
        try:
            if tracker_of(directory, location).outbox.flush():
                return
        except UsageError as error:
            logger.warning("The earlier run in %s cannot be opened: %s", directory, error)
    aside = directory / f"{ASIDE}{known.get('run_id') or uuid.uuid4().hex}"
    aside.mkdir(exist_ok=True)
    write_json(aside / RUN_FILE, known)
    Journal(directory / PENDING_FILE).move(aside / PENDING_FILE)
    logger.warning(
        "The records of the earlier run wait in %s: ppi_med.tracking.pending.send_pending sends "
        "them when its tracking store is there.",
        aside,
    )


def _default_name(experiment: str) -> str:
    return f"{experiment}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"


def _now() -> int:
    return int(time.time() * 1000)


def send_pending(directory: str | os.PathLike[str], location: Location) -> int:
    """Send the waiting records in a run's folder, also those of earlier runs.

    Args:
        directory: the run's folder.
        location: where runs are kept, from `ppi_med.tracking.location.locate`.

    Returns:
        How many were sent.

    Raises:
        UnreachableError: if the store still cannot be reached.
    """
    folder = Path(directory)
    earlier = [
        one
        for one in sorted(folder.glob(f"{ASIDE}*"))
        if read_run_file(one).get("tracking_uri") == location.uri
    ]
    return sum(_send(one, location) for one in (*earlier, folder) if (one / PENDING_FILE).exists())


def _send(folder: Path, location: Location) -> int:
    tracker = tracker_of(folder, location)
    waiting = len(tracker.outbox.journal)
    if not tracker.outbox.flush():
        raise UnreachableError(
            f"{location.uri} cannot be reached: {waiting} records still wait in {folder}; "
            "try again when it can."
        )
    return waiting
