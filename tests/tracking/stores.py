"""SQLite stores for tests: making one takes ten seconds, copying one none."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from ppi_med.tracking.location import DATABASE, Location, locate
from ppi_med.tracking.store import Store


@functools.cache
def _template() -> Path:
    location = locate(tempfile.mkdtemp(prefix="ppi_med_store_"))
    Store(location, "template").client.search_experiments()
    return Path(location.uri.removeprefix("sqlite:///"))


def new_store(folder: Path) -> Location:
    """Return an empty store in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_template(), folder / DATABASE)
    return locate(folder)


@contextmanager
def mlflow_at(location: Location) -> Iterator[None]:
    """MLflow's own functions use this store, and afterwards none.

    MLflow keeps the address in the environment too, and what `get_tracking_uri` gives where none
    was set is an address: to set that again would hand it to every test that follows.
    """
    mlflow.set_tracking_uri(location.uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)


def only_run(location: Location):
    """Return the client and the one run in the store."""
    runs = all_runs(location)
    assert len(runs) == 1
    return client_of(location), runs[0]


def all_runs(location: Location):
    client = client_of(location)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return list(client.search_runs(experiments))


def client_of(location: Location):
    return Store(location, "reader").client


def history(client, run, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
