"""The MLflow store: opens a run and accepts records, each in one request if MLflow allows it.

A record is a plain dict, so it can be written to a file and sent later:

- `{"kind": "metrics", "items": [[name, value, milliseconds, step], ...]}`
- `{"kind": "params" | "tags", "items": {name: text}}`
- `{"kind": "artifact", "path": file or folder, "folder": where in the run}`
- `{"kind": "dataset", "dataset": MLflow's description, "context": part}`
- `{"kind": "model", "path": folder in MLflow's format, "name": ..., "registered_name": ...}`
- `{"kind": "status", "status": ..., "time": milliseconds}`
- `{"kind": "abandon", "run_id": an earlier run, "time": milliseconds}`
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ppi_med.errors import UnreachableError, UsageError, plain_words
from ppi_med.tracking.environment import import_mlflow, quiet
from ppi_med.tracking.location import Location, prepared
from ppi_med.tracking.models import describe_versions, send_model
from ppi_med.tracking.outbox import Record
from ppi_med.tracking.view import save_view

logger = logging.getLogger(__name__)

# Largest number in one request.
_METRICS, _OTHERS = 1000, 100
_ATTEMPTS = 5
_OPEN = ("RUNNING", "SCHEDULED")

# Errors that persist when a record is sent again.
_PERMANENT = {
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}


@contextmanager
def telling_unreachable_apart() -> Iterator[None]:
    """Raise `UnreachableError` for temporary faults; let errors in the record itself pass."""
    mlflow = import_mlflow()
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        if error.error_code in _PERMANENT and not _of_the_disk(error):
            raise
        raise UnreachableError(str(error).splitlines()[0][:200]) from error
    except OSError as error:
        # Artifacts are in a folder: a full disk may have room again.
        if isinstance(error, (UnreachableError, UsageError)):
            raise
        raise UnreachableError(plain_words(error)) from error


def _of_the_disk(error: Exception) -> bool:
    """Say whether SQLite itself failed, and not the request."""
    found = getattr(error.__cause__, "orig", None)
    refused = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
    return isinstance(found, sqlite3.Error) and not isinstance(found, refused)


class Store:
    """Runs of one experiment.

    Args:
        location: location of the runs.
        experiment: name of the experiment; made if it does not exist.
    """

    def __init__(self, location: Location, experiment: str) -> None:
        self.location = location
        self.experiment = experiment
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self._client: Any = None
        self._entered_again = False
        self._recorded: dict[str, set[int]] = {}

    @property
    def client(self) -> Any:
        """The MLflow client, made on first use."""
        if self._client is None:
            mlflow = import_mlflow()
            loggers = ("alembic", "mlflow.store.db.utils")
            with prepared(self.location), telling_unreachable_apart(), quiet(*loggers):
                self._client = mlflow.MlflowClient(
                    tracking_uri=self.location.uri, registry_uri=self.location.uri
                )
        return self._client

    def enter(self, run_id: str) -> str | None:
        """Open an earlier run again.

        Returns:
            Its name; None if there is no such run.

        Raises:
            UnreachableError: if the store cannot be reached.
        """
        mlflow = import_mlflow()
        try:
            with telling_unreachable_apart():
                run = self.client.get_run(run_id)
                if run.info.lifecycle_stage != "active":
                    return None
                self.client.update_run(run_id, status="RUNNING")
        except mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        self.run_id, self._entered_again = run_id, True
        self.experiment_id = str(run.info.experiment_id)
        return str(run.info.run_name)

    def create(self, name: str, started: int) -> str:
        """Begin a run under a name that no other run of the experiment has.

        Args:
            name: requested name; a number is added if it is in use.
            started: milliseconds.

        Returns:
            The name.

        Raises:
            UnreachableError: if the store cannot be reached.
            UsageError: if the experiment is deleted.
        """
        with telling_unreachable_apart():
            self.experiment_id = experiment_id = self._experiment_id()
            name = self._unused(name, experiment_id)
            run = self.client.create_run(experiment_id, start_time=started, run_name=name)
        self.run_id = str(run.info.run_id)
        return name

    def send(self, record: Record) -> None:
        """Send a record of the open run.

        Raises:
            UnreachableError: if it may be sent later.
            mlflow.exceptions.MlflowException: where the store refuses it.
        """
        with telling_unreachable_apart():
            getattr(self, f"_send_{record['kind']}")(record)

    def _send_metrics(self, record: Record) -> None:
        from mlflow.entities import Metric

        items = [item for item in record["items"] if self._is_new(item)]
        for part in _parts(items, _METRICS):
            self.client.log_batch(self.run_id, metrics=[Metric(*item) for item in part])
            for name, _, _, step in part:
                # Only now: a record that could not be sent is still new next time.
                self._recorded.get(name, set()).add(step)

    def _send_params(self, record: Record) -> None:
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        new = {name: text for name, text in record["items"].items() if name not in known}
        changed = {n: t for n, t in record["items"].items() if n in known and known[n] != t}
        for part in _parts([Param(*item) for item in new.items()], _OTHERS):
            self.client.log_batch(self.run_id, params=part)
        if changed:
            # MLflow never changes a parameter; a resumed run that does must still be seen.
            logger.warning(
                "%d parameters differ from those this run was begun with (such as %s); the new "
                "values are recorded as tags resumed.NAME.",
                len(changed),
                next(iter(changed)),
            )
            self._send_tags({"items": {f"resumed.{n}": t for n, t in changed.items()}})

    def _send_tags(self, record: Record) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(*item) for item in record["items"].items()]
        for part in _parts(tags, _OTHERS):
            self.client.log_batch(self.run_id, tags=part)

    def _send_artifact(self, record: Record) -> None:
        path, folder = Path(record["path"]), record["folder"] or None
        if not path.exists():
            logger.warning("Artifact %s is gone and is not recorded.", path)
        elif path.is_dir():
            self.client.log_artifacts(self.run_id, str(path), folder)
        else:
            self.client.log_artifact(self.run_id, str(path), folder)

    def _send_dataset(self, record: Record) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = [InputTag("mlflow.data.context", record["context"])]
        logged = DatasetInput(Dataset(**record["dataset"]), tags)
        mlflow = import_mlflow()
        for attempt in range(_ATTEMPTS):
            try:
                self.client.log_inputs(self.run_id, datasets=[logged])
                return
            except mlflow.exceptions.MlflowException as error:
                # Two runs recorded the same data set at once; next time it exists.
                if attempt == _ATTEMPTS - 1 or "unique" not in str(error).lower():
                    raise

    def _send_model(self, record: Record) -> None:
        send_model(self.client, str(self.run_id), record)

    def _send_status(self, record: Record) -> None:
        self.client.set_terminated(self.run_id, record["status"], record["time"])
        describe_versions(self.client, str(self.run_id))

    def _send_abandon(self, record: Record) -> None:
        """Close an abandoned earlier run; one that has ended stays as it is."""
        mlflow = import_mlflow()
        try:
            run = self.client.get_run(record["run_id"])
        except mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return
            raise
        if run.info.lifecycle_stage == "active" and run.info.status in _OPEN:
            self.client.set_terminated(record["run_id"], "KILLED", record["time"])

    def _is_new(self, item: Sequence[Any]) -> bool:
        """Say whether a metric's step is not recorded yet.

        An epoch that is repeated after a kill would otherwise be there twice.
        """
        name, _, _, step = item
        if not self._entered_again or name.startswith("system/"):
            return True
        if name not in self._recorded:
            history = self.client.get_metric_history(self.run_id, name)
            self._recorded[name] = {point.step for point in history}
        return step not in self._recorded[name]

    def _experiment_id(self) -> str:
        mlflow = import_mlflow()
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                self.client.create_experiment(
                    self.experiment, artifact_location=self.location.artifacts
                )
            except mlflow.exceptions.MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            # Here, or by another process that was quicker.
            found = self.client.get_experiment_by_name(self.experiment)
        if found.lifecycle_stage != "active":
            raise UsageError(
                f"The experiment {self.experiment!r} is deleted in {self.location.uri}: restore "
                "it there, or choose another name."
            )
        save_view(self.client, found)
        return str(found.experiment_id)

    def _unused(self, name: str, experiment_id: str) -> str:
        name = name.replace("'", "_")
        candidate, number = name, 1
        while self.client.search_runs(
            [experiment_id], f"attributes.run_name = '{candidate}'", max_results=1
        ):
            number += 1
            candidate = f"{name}-{number}"
        return candidate


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
