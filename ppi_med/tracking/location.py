"""The location of runs: the address of the store, and the folder of the artifacts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from ppi_med.errors import SYSTEM_ERRORS, UnreachableError, UsageError, plain_words
from ppi_med.io import exclusive

DATABASE = "mlruns.db"
ARTIFACTS = "mlartifacts"
_SQLITE = "sqlite:///"
_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
# Seconds for which another process may write before the database counts as unusable.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Location:
    """The location of runs.

    Attributes:
        uri: MLflow's tracking URI.
        artifacts: URI of the artifacts' folder; None leaves it to the server.
    """

    uri: str
    artifacts: str | None


def locate(root: str | os.PathLike[str], uri: str | None = None) -> Location:
    """Return the location for runs.

    Args:
        root: folder of the database and of the artifacts, if no address is given.
        uri: a tracking URI; None or "default": `MLFLOW_TRACKING_URI`, then SQLite in `root`.

    Raises:
        UsageError: for a plain folder, which MLflow no longer accepts, and for what it never did.

    Examples:
        >>> locate("runs", "http://127.0.0.1:5000").artifacts is None
        True
    """
    given = None if uri == "default" else uri
    chosen = given or os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(Path(root) / DATABASE)
    scheme, separator, _ = chosen.partition("://")
    plugins = (one.name for one in entry_points(group="mlflow.tracking_store"))
    if not separator or scheme.partition("+")[0] not in (*_SCHEMES, *plugins):
        raise UsageError(
            f"Got the tracking address {chosen!r}, expected sqlite:///FILE.db, a database or "
            "http(s)://: MLflow no longer keeps runs in plain folders."
        )
    if not chosen.startswith(_SQLITE):
        return Location(chosen, None)
    # Artifacts cannot be in a database; they are beside it, under an absolute path.
    database = _file(chosen).absolute()
    options = chosen.removeprefix(_SQLITE).partition("?")
    uri = _sqlite(database) + options[1] + options[2]
    return Location(uri, (database.parent / ARTIFACTS).as_uri())


@contextmanager
def prepared(location: Location) -> Iterator[None]:
    """Hold a SQLite database while MLflow makes its tables, or brings old ones up to date.

    Two processes that do so at once destroy each other's work: the second waits for the first.

    Raises:
        UnreachableError: if another program has locked the database for a minute.
        UsageError: if it cannot be used; MLflow itself would try for minutes.
    """
    if not location.uri.startswith(_SQLITE):
        yield
        return
    database = _file(location.uri)
    try:
        with exclusive(database.parent, "run", name=f".{database.name}.lock", wait=True):
            with closing(sqlite3.connect(database, timeout=_PATIENCE)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
            yield
    except Exception as error:
        raise _in_words(error, database) from error


def _in_words(error: Exception, database: Path) -> Exception:
    """Return the error about a database that cannot be opened; any other error as it is."""
    found = getattr(error, "orig", error)  # SQLAlchemy wraps SQLite's errors
    if "locked" in str(found):
        return UnreachableError(f"{database} is locked by another program")
    if "db upgrade" in str(found):
        return UsageError(
            f"The database of the runs, {database}, is of another version of MLflow: copy it, "
            f"then run `mlflow db upgrade {_SQLITE}{database}`."
        )
    if isinstance(found, SYSTEM_ERRORS) and not isinstance(found, UnreachableError):
        return UsageError(
            f"The database of the runs, {database}, cannot be used ({plain_words(found)}): make "
            "room or correct the rights of its folder, name another one by tracking_uri, or none."
        )
    return error


def _file(uri: str) -> Path:
    """Return the file of a SQLite address, whose options may follow a question mark."""
    return Path(uri.removeprefix(_SQLITE).split("?")[0])


def _sqlite(database: Path) -> str:
    return _SQLITE + str(database.absolute())
