"""What MLflow's pages show when they open: a view kept as a tag of the experiment, its address."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from ppi_med import naming
from ppi_med.tracking.location import DATABASE, Location, locate

PORT = 5000
_VIEW = "ppi_med"
# As MLflow calls the columns, with their width in pixels: a narrow window shows the first.
_COLUMNS = {
    f"tags.`{naming.TAG_METHOD}`": 118,
    f"tags.`{naming.TAG_TRAIN_SITE}`": 80,
    f"metrics.`{naming.TEST_AUC}`": 75,
    f"metrics.`{naming.OTHER_SITES}`": 135,
    f"metrics.`{naming.SELECTED}`": 130,
    f"metrics.`{naming.TEST_ACCURACY}`": 105,
    f"tags.`{naming.TAG_SEED}`": 55,
    "attributes.`Description`": 300,
}
_WIDTHS = {"attributes.`Run Name`": 140, "runDateAndNestInfo": 62}
_STATE = {
    # Of the validation. Sorted by time, cells would be folded into their sweep.
    "orderByKey": f"metrics.`{naming.SELECTED}`",
    "orderByAsc": False,
    "selectedColumns": list(_COLUMNS),
    "columnOrder": [*_COLUMNS, *_WIDTHS],
    "columnWidths": {**_COLUMNS, **_WIDTHS},
}
_TAGS = {
    # Without it the pages open as for language models, where the list of runs is hidden.
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{_VIEW}": json.dumps(_STATE),
}


def save_view(client: Any, experiment: Any) -> None:
    """Keep the view with an experiment, where it has not got it yet."""
    for name, text in _TAGS.items():
        if experiment.tags.get(name) != text:
            client.set_experiment_tag(experiment.experiment_id, name, text)


def address(location: Location, experiment_id: str, port: int = PORT) -> str:
    """Return where an experiment opens with the view: at its server, or one on this machine.

    Examples:
        >>> address(locate("runs", "http://127.0.0.1:80"), "1").partition("?")
        ('http://127.0.0.1:80/#/experiments/1/runs', '?', 'viewStateShareKey=ppi_med&workflowType=machine_learning')
    """  # noqa: E501
    server = location.uri.rstrip("/") if _is_server(location) else f"http://127.0.0.1:{port}"
    query = urlencode({"viewStateShareKey": _VIEW, "workflowType": "machine_learning"})
    return f"{server}/#/experiments/{experiment_id}/runs?{query}"


def where_to_look(location: Location, experiment_id: str) -> str:
    """Return how to open the runs of an experiment, in one line."""
    if _is_server(location):
        return f"the runs: {address(location, experiment_id)}"
    own = location == locate(".", f"sqlite:///{DATABASE}")
    named = "" if own else f" --tracking-uri {location.uri}"
    return f"ppi-med ui{named} shows the runs at {address(location, experiment_id)}"


def addresses(client: Any, location: Location, port: int = PORT) -> Iterator[str]:
    """Yield name and address of each experiment with runs, the newest first.

    Those of earlier versions get the view.
    """
    for one in client.search_experiments():
        if client.search_runs([one.experiment_id], max_results=1):
            save_view(client, one)
            yield f"{one.name}: {address(location, one.experiment_id, port)}"


def server_command(location: Location, port: int = PORT) -> list[str]:
    """Return the words that start MLflow's server on this machine; none where one runs already."""
    if _is_server(location):
        return []
    words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, *words, "--workers", "1", "--backend-store-uri", location.uri]


def _is_server(location: Location) -> bool:
    return location.uri.startswith(("http://", "https://"))
