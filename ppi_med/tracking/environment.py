"""Settings that MLflow reads from the environment, set before it is used."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DEFAULTS = {
    # Read at import; MONAI may have imported MLflow already, see below.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # A server that cannot be reached must not stop an epoch for minutes: records wait instead.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Runs are read in a terminal or a log file, where links of a hosted service do not help.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def import_mlflow() -> Any:
    """Return `mlflow`, without telemetry and with short time-outs; the user's settings stay.

    Raises:
        ImportError: if it is not installed, saying what to do.
    """
    early = "mlflow" in sys.modules
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
        import mlflow.tracking
    except ImportError as error:
        raise ImportError(
            "Tracking needs mlflow, which cannot be imported: install it, or switch tracking off "
            "with null."
        ) from error
    if early:
        from mlflow.telemetry import set_telemetry_client

        # Reads the environment again, and drops the client that the import made.
        set_telemetry_client()
    return mlflow


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let loggers of these names log only errors inside the block.

    MLflow logs each of the sixty migrations that make a new database.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
