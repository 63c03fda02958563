"""Where runs are kept: the address of the store, and the folder of the artifacts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ppi_med.errors import UsageError

DATABASE = "mlruns.db"
ARTIFACTS = "mlartifacts"
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Location:
    """Where runs are kept.

    Attributes:
        uri: MLflow's tracking URI.
        artifacts: URI of the artifacts' folder; None leaves it to the server.
    """

    uri: str
    artifacts: str | None


def locate(root: str | os.PathLike[str], uri: str | None = None) -> Location:
    """Return where to keep runs.

    Args:
        root: folder of the database and of the artifacts where no address is given.
        uri: a tracking URI; default ``MLFLOW_TRACKING_URI``, then SQLite in `root`.

    Raises:
        UsageError: for a plain folder, which MLflow no longer accepts.

    Examples:
        >>> locate("runs", "http://127.0.0.1:5000").artifacts is None
        True
    """
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(Path(root) / DATABASE)
    if "://" not in chosen or chosen.startswith("file:"):
        raise UsageError(
            f"Got the tracking address {chosen!r}, expected sqlite:///FILE.db, a database or "
            "http(s)://: MLflow no longer keeps runs in plain folders."
        )
    if not chosen.startswith(_SQLITE):
        return Location(chosen, None)
    # Artifacts cannot live in a database; they lie beside it, at an absolute place.
    database = Path(chosen.removeprefix(_SQLITE)).absolute()
    return Location(_sqlite(database), (database.parent / ARTIFACTS).as_uri())


def prepare(location: Location) -> None:
    """Make the folder of a SQLite database."""
    if location.uri.startswith(_SQLITE):
        Path(location.uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)


def _sqlite(database: Path) -> str:
    return _SQLITE + str(database.absolute())
