"""Finished cells and their sweeps as runs of MLflow: the source of all tables.

A run of a cell is complete once it is finished and holds its predictions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ppi_med import naming
from ppi_med.evaluation.metrics import AUC
from ppi_med.evaluation.predictions import Predictions
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.records import Records
from ppi_med.tracking.environment import import_mlflow
from ppi_med.tracking.location import Location
from ppi_med.tracking.settings import PREDICTIONS

TAG_KIND, TAG_SWEEP, TAG_SWEEP_KEY = "sweep.kind", "sweep.name", "sweep.key"
TAG_CELL = "sweep.cell"
TAG_SELECTION = "sweep.selection"
TAG_CLOSED = "sweep.closed"
"""Tag of abandoned runs: their cell is run again, whatever they still write."""
TAG_TRAIN_SITES, TAG_CANDIDATE, TAG_SITES = "sweep.train_sites", "settings", "sweep.sites"
_EARLIER_TRAIN_SITES = "train_sites"
"""Of runs up to 0.2.0, where it stood beside `train_site`."""
_PAGE = 100


@dataclass(frozen=True)
class CellRecord:
    """One finished training with its predictions on every site's held-out cases.

    Attributes:
        name: name of the cell.
        train_site: label of the training sites.
        train_sites: sites of the training subjects.
        method: method of training.
        seed: seed of the run.
        candidate: settings among which a selection chooses; "" if there is only one.
        fold: the fold left out; None in a cross-site sweep.
        validation: AUC on the validation cases of the training sites.
        predictions: predictions on the held-out cases.
        mask: kind of the method's mask, or None.
        run_id: id in MLflow.
    """

    name: str
    train_site: str
    train_sites: tuple[str, ...]
    method: str
    seed: int
    predictions: Predictions
    validation: float = float("nan")
    candidate: str = ""
    fold: int | None = None
    mask: str | None = None
    run_id: str = ""
    _aucs: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def test_sites(self) -> tuple[str, ...]:
        """Sites that have held-out cases."""
        return tuple(sorted(set(self.predictions.site.tolist())))

    def auc(self, site: str | None = None) -> float:
        """Return the AUC on the held-out cases of a site, or of all; NaN with one class only."""
        key = site or ""
        if key not in self._aucs:
            chosen = self.predictions.of_site(site) if site else self.predictions
            value = AUC(chosen.label, chosen.score) if len(chosen) else float("nan")
            self._aucs[key] = float(value)
        return self._aucs[key]


@dataclass(frozen=True)
class Sweep:
    """A parent run.

    Attributes:
        run_id: id in MLflow.
        name: name of the sweep.
        kind: `cross_site` or `cross_validate`.
        bundle: bundle of its runs.
        sites: sites in the order of the tables.
        experiment_id: id of its experiment.
        status: status of the run.
    """

    run_id: str
    name: str
    kind: str
    bundle: str
    sites: tuple[str, ...]
    experiment_id: str
    status: str


def find_sweeps(client: Any, experiments: Sequence[str] | None = None) -> list[Sweep]:
    """Return the sweeps of some experiments (ids), or of all."""
    chosen = list(experiments or [one.experiment_id for one in _experiments(client)])
    found = _search(client, chosen, f"tags.`{TAG_KIND}` != ''") if chosen else []
    return [
        Sweep(
            run_id=run.info.run_id,
            name=run.data.tags.get(TAG_SWEEP, run.info.run_name),
            kind=run.data.tags[TAG_KIND],
            bundle=run.data.tags.get(naming.TAG_BUNDLE, ""),
            sites=tuple(json.loads(run.data.tags.get(TAG_SITES, "[]"))),
            experiment_id=run.info.experiment_id,
            status=run.info.status,
        )
        for run in sorted(found, key=lambda run: int(run.info.start_time))
        if naming.PARENT not in run.data.tags
    ]


def children(client: Any, sweep: Sweep) -> list[Any]:
    """Return all runs of a sweep, with any status."""
    return _search(client, [sweep.experiment_id], f"tags.`{naming.PARENT}` = '{sweep.run_id}'")


def finished(client: Any, sweep: Sweep) -> list[CellRecord]:
    """Return the finished cells of a sweep, sorted by name; the first of duplicates."""
    found: dict[str, CellRecord] = {}
    for run in sorted(children(client, sweep), key=lambda run: int(run.info.start_time)):
        if is_complete(run):
            found.setdefault(run.data.tags[TAG_CELL], as_record(run))
    return [found[name] for name in sorted(found)]


def finished_seconds(location: Location, name: str) -> dict[str, float]:
    """Return how long the finished cells of the sweeps of a name took, by the cells' names.

    A database that is not there is not made.
    """
    file = Path(location.uri.removeprefix("sqlite:///"))
    if location.uri.startswith("sqlite:///") and not file.is_file():
        return {}
    client = import_mlflow().MlflowClient(location.uri)
    return {
        run.data.tags[TAG_CELL]: (run.info.end_time - run.info.start_time) / 1000
        for sweep in find_sweeps(client)
        if sweep.name == name
        for run in children(client, sweep)
        if is_complete(run)
    }


def is_complete(run: Any) -> bool:
    """Say whether a run has everything that a finished cell has."""
    tags = run.data.tags
    finished = run.info.status == "FINISHED" and TAG_CELL in tags and TAG_CLOSED not in tags
    return finished and bool(_profiles(run))


def as_record(run: Any) -> CellRecord:
    """Return a run of MLflow as a record."""
    tags: Mapping[str, str] = run.data.tags
    fold = tags.get(naming.TAG_FOLD)
    return CellRecord(
        name=tags[TAG_CELL],
        train_site=tags[naming.TAG_TRAIN_SITE],
        train_sites=tuple(json.loads(tags.get(TAG_TRAIN_SITES) or tags[_EARLIER_TRAIN_SITES])),
        method=tags[naming.TAG_METHOD],
        seed=int(tags[naming.TAG_SEED]),
        predictions=Predictions.from_json(_profiles(run)[-1]),
        validation=float(run.data.metrics.get(naming.SELECTED, float("nan"))),
        candidate=tags.get(TAG_CANDIDATE, ""),
        fold=None if fold is None else int(fold),
        mask=tags.get(naming.TAG_MASK),
        run_id=run.info.run_id,
    )


class SweepRecords(Records[CellRecord]):
    """The finished cells of a sweep; each run has recorded itself.

    Args:
        read: returns the sweep's finished cells from the store.
    """

    def __init__(self, read: Callable[[], list[CellRecord]]) -> None:
        self.read = read

    def done(self) -> list[CellRecord]:
        """Return all records, sorted by the names of their cells."""
        return self.read()

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells that no run has finished."""
        finished = {record.name for record in self.done()}
        return [cell for cell in cells if cell.name not in finished]


def _profiles(run: Any) -> list[str]:
    """Return the predictions that a run has recorded, as texts."""
    return [
        logged.dataset.profile
        for logged in (run.inputs.dataset_inputs if run.inputs else ())
        if any(tag.value == PREDICTIONS for tag in logged.tags)
    ]


def _experiments(client: Any) -> list[Any]:
    return list(client.search_experiments())


def _search(client: Any, experiments: Iterable[str], condition: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs(list(experiments), condition, max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
